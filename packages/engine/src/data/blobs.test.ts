import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createIdMaker, Refusal } from '@baton/domain';
import { openPools, postgresBlobs } from '@baton/store';
import { createNodeHash, directoryBlobs } from '@baton/store/node';
import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLaneBook } from '../dispatch/lane-book.ts';
import { type EngineEnvironment, silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { sweepBlobs } from './blob-sweep.ts';
import { type Blobs, createBlobs } from './blobs.ts';

let env: EngineEnvironment;
let stop: () => Promise<void>;
const directory = mkdtempSync(join(tmpdir(), 'baton-engine-blobs-'));
beforeAll(async () => {
  const database = await testDatabase({ migrated: true });
  const pools = openPools(database.url);
  env = {
    pools,
    ids: createIdMaker(8, Date.now),
    settings: { ...DEFAULT_SETTINGS, maxBlobBytes: 3_000_000 },
    now: Date.now,
    random: Math.random,
    log: silentLog,
  };
  stop = async () => {
    await pools.end();
    await database.drop();
  };
});
afterAll(async () => {
  await stop();
  rmSync(directory, { recursive: true, force: true });
});

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const refused = async (call: Promise<unknown>): Promise<Refusal> => {
  const error = await call.then(
    () => expect.fail('it should have been refused'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Refusal);
  return error as Refusal;
};
async function put(blobs: Blobs, bytes: Uint8Array, namespace = 'default'): Promise<string> {
  const sha256 = hashOf(bytes);
  const begun = await blobs.begin(namespace, { sizeBytes: bytes.byteLength, sha256 });
  if ('blob' in begun) return sha256;
  for (let offset = 0; offset < bytes.byteLength; ) {
    offset = await blobs.append(namespace, begun.uploadId, offset, bytes.subarray(offset, offset + 1_000_000));
  }
  await blobs.commit(namespace, begun.uploadId, sha256);
  return sha256;
}
async function readAll(blobs: Blobs, sha256: string, from = 0, namespace = 'default'): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let expected = from;
  for await (const { offset, data } of blobs.read(namespace, sha256, from)) {
    expect(offset).toBe(expected);
    expected += data.byteLength;
    parts.push(data);
  }
  return new Uint8Array(Buffer.concat(parts));
}

describe.each([
  ['Postgres', async () => createBlobs(env, createLaneBook(env))],
  [
    'a directory',
    async () => {
      const blobStores = {
        postgres: postgresBlobs({ createHash: createNodeHash }),
        directory: await directoryBlobs(directory),
      };
      return createBlobs({ ...env, blobStores }, createLaneBook(env));
    },
  ],
])('blobs in %s', (_, open) => {
  let blobs: Blobs;
  beforeAll(async () => {
    blobs = await open();
  });

  test('are read from any offset; nobody sees them before the commit; then nothing is to be sent again', async () => {
    const bytes = randomBytes(2_500_001);
    const sha256 = hashOf(bytes);
    const begun = await blobs.begin('default', { sizeBytes: bytes.byteLength, sha256 });
    if ('blob' in begun) return expect.fail('nobody has sent these bytes');
    const { uploadId } = begun;
    for (const [offset, end] of [
      [0, 1_000_000],
      [1_000_000, 2_000_000],
      [2_000_000, bytes.byteLength],
    ] as const) {
      expect(await refused(blobs.stat('default', sha256))).toMatchObject({
        code: 'not_found',
        reason: 'BLOB_NOT_FOUND',
      });
      expect(await blobs.append('default', uploadId, offset, bytes.subarray(offset, end))).toBe(end);
    }
    expect((await refused(readAll(blobs, sha256))).reason).toBe('BLOB_NOT_FOUND');
    const blob = await blobs.commit('default', uploadId, sha256);
    expect(blob).toMatchObject({ sha256, sizeBytes: bytes.byteLength });
    expect(await blobs.commit('default', uploadId, sha256)).toEqual(blob);
    for (const from of [0, 999_999, 2_500_000, 2_500_001])
      expect(hashOf(await readAll(blobs, sha256, from))).toBe(hashOf(bytes.subarray(from)));
    expect(hashOf(await blobs.readAll(blob))).toBe(sha256);
    expect(await blobs.begin('default', { sizeBytes: 0, sha256 })).toEqual({ blob });
    expect((await refused(blobs.begin('default', { sizeBytes: 5, sha256 }))).violations[0]!.field).toBe('size_bytes');
    expect((await refused(readAll(blobs, sha256, 2_500_002))).violations[0]!.field).toBe('offset');
  });

  test('are of one namespace, and so are their uploads', async () => {
    const bytes = randomBytes(100);
    const sha256 = await put(blobs, bytes, 'one');
    expect((await refused(blobs.stat('two', sha256))).reason).toBe('BLOB_NOT_FOUND');
    const begun = await blobs.begin('two', { sizeBytes: 100, sha256 });
    expect(begun).toHaveProperty('uploadId');
    const { uploadId } = begun as { uploadId: string };
    expect((await refused(blobs.append('one', uploadId, 0, bytes))).reason).toBe('BLOB_UPLOAD_NOT_FOUND');
    await blobs.append('two', uploadId, 0, bytes);
    // In its own namespace these bytes are known, whatever the upload is: the bytes are what counts.
    expect((await blobs.commit('one', uploadId, sha256)).sha256).toBe(sha256);
    expect((await refused(blobs.stat('two', sha256))).reason).toBe('BLOB_NOT_FOUND');
    expect((await blobs.commit('two', uploadId, sha256)).sha256).toBe(sha256);
    expect(hashOf(await readAll(blobs, sha256, 0, 'one'))).toBe(sha256);
    expect(hashOf(await readAll(blobs, sha256, 0, 'two'))).toBe(sha256);
  });

  test('chunks: repeated ones are harmless, overlapping ones give the rest, gaps say where to go on', async () => {
    const bytes = randomBytes(1_000);
    const { uploadId } = (await blobs.begin('default', { sizeBytes: 1_000, sha256: '' })) as { uploadId: string };
    const append = (offset: number, end: number) =>
      blobs.append('default', uploadId, offset, bytes.subarray(offset, end));
    expect(await append(0, 300)).toBe(300);
    expect(await append(0, 300)).toBe(300);
    expect(await append(100, 200)).toBe(300);
    expect(await append(200, 500)).toBe(500);
    expect(await refused(append(501, 600))).toMatchObject({
      code: 'failed_precondition',
      reason: 'BLOB_GAP',
      metadata: { expected_offset: '500' },
    });
    expect(await refused(blobs.commit('default', uploadId, hashOf(bytes)))).toMatchObject({
      code: 'failed_precondition',
      reason: 'BLOB_INCOMPLETE',
      metadata: { expected_offset: '500' },
    });
    const beyond = await refused(blobs.append('default', uploadId, 500, new Uint8Array(501)));
    expect([beyond.code, beyond.violations[0]!.field]).toEqual(['invalid_argument', 'data']);
    expect(await append(500, 1_000)).toBe(1_000);
    expect(await refused(blobs.commit('default', uploadId, hashOf(bytes.subarray(1))))).toMatchObject({
      code: 'invalid_argument',
      reason: 'BLOB_MISMATCH',
      violations: [{ field: 'sha256' }],
    });
    expect((await blobs.commit('default', uploadId, hashOf(bytes))).sizeBytes).toBe(1_000);
    expect((await refused(append(0, 10))).reason).toBe('BLOB_UPLOAD_NOT_FOUND');
  });

  test('an unannounced size ends at the limit; an announced one is refused before a byte is sent', async () => {
    const { uploadId } = (await blobs.begin('default', { sizeBytes: 0, sha256: '' })) as { uploadId: string };
    const million = new Uint8Array(1_000_000);
    for (const offset of [0, 1_000_000, 2_000_000]) await blobs.append('default', uploadId, offset, million);
    expect(await refused(blobs.append('default', uploadId, 3_000_000, Uint8Array.of(1)))).toMatchObject({
      code: 'resource_exhausted',
      reason: 'BLOB_TOO_LARGE',
      violations: [{ field: 'data' }],
    });
    expect(await refused(blobs.begin('default', { sizeBytes: 3_000_001, sha256: '' }))).toMatchObject({
      reason: 'BLOB_TOO_LARGE',
      violations: [{ field: 'size_bytes' }],
    });
    const all = new Uint8Array(3_000_000);
    expect((await blobs.commit('default', uploadId, hashOf(all))).sizeBytes).toBe(3_000_000);
  });

  test('ten callers that commit one upload at once have one blob', async () => {
    const bytes = randomBytes(10_000);
    const { uploadId } = (await blobs.begin('default', { sizeBytes: 10_000, sha256: '' })) as { uploadId: string };
    await blobs.append('default', uploadId, 0, bytes);
    const found = await Promise.all(Array.from({ length: 10 }, () => blobs.commit('default', uploadId, hashOf(bytes))));
    expect(new Set(found.map((blob) => blob.contentId))).toEqual(new Set([uploadId]));
    expect(hashOf(await readAll(blobs, hashOf(bytes)))).toBe(hashOf(bytes));
  });

  test('ten callers that send the same bytes at once have one blob, and it is whole', async () => {
    const bytes = randomBytes(50_000);
    const found = await Promise.all(Array.from({ length: 10 }, () => put(blobs, bytes)));
    expect(new Set(found).size).toBe(1);
    expect(hashOf(await readAll(blobs, hashOf(bytes)))).toBe(hashOf(bytes));
    const [rows] = await env.pools.api.unsafe(
      `select count(*)::int as blobs, (select count(*) from baton.blob_chunks c where c.content_id not in
         (select content_id from baton.blobs union select id from baton.blob_uploads))::int as stray
       from baton.blobs where sha256 = decode($1, 'hex')`,
      [hashOf(bytes)],
    );
    expect(rows).toEqual({ blobs: 1, stray: 0 });
    expect((await blobs.begin('default', { sizeBytes: 0, sha256: hashOf(bytes) })) as object).toHaveProperty('blob');
  });

  test('an empty one is one', async () => {
    const sha256 = await put(blobs, new Uint8Array());
    expect((await blobs.stat('default', sha256)).sizeBytes).toBe(0);
    expect(await readAll(blobs, sha256)).toEqual(new Uint8Array());
  });
});

test('both places are read side by side; without the directory its blobs say why they cannot be', async () => {
  const blobStores = { postgres: postgresBlobs(), directory: await directoryBlobs(directory) };
  const both = createBlobs({ ...env, blobStores }, createLaneBook(env));
  const alone = createBlobs(env, createLaneBook(env));
  const [first, second] = [await put(alone, randomBytes(1_000)), await put(both, randomBytes(1_000))];
  expect((await both.stat('default', first)).place).toBe('postgres');
  expect((await both.stat('default', second)).place).toBe('directory');
  expect([hashOf(await readAll(both, first)), hashOf(await readAll(both, second))]).toEqual([first, second]);
  expect((await alone.stat('default', second)).sizeBytes).toBe(1_000);
  expect(await refused(readAll(alone, second))).toMatchObject({
    code: 'failed_precondition',
    reason: 'BLOB_NOT_REACHABLE',
  });
});

test('the sweep deletes what nothing refers to, rows and files', async () => {
  const blobStores = { postgres: postgresBlobs(), directory: await directoryBlobs(directory) };
  const swept = { ...env, blobStores };
  const blobs = createBlobs(swept, createLaneBook(env));
  const [kept, gone] = [await put(blobs, randomBytes(10)), await put(blobs, randomBytes(10))];
  const { uploadId } = (await blobs.begin('default', { sizeBytes: 5, sha256: '' })) as { uploadId: string };
  await blobs.append('default', uploadId, 0, new Uint8Array(3));
  await env.pools.api.unsafe(
    `update baton.blobs set used_at = clock_timestamp() - interval '25 h' where sha256 = decode($1, 'hex')`,
    [gone],
  );
  await env.pools.api.unsafe(`update baton.blob_uploads set expires_at = clock_timestamp() where id = $1`, [uploadId]);
  const before = await blobs.stat('default', kept);
  const names = () => readdirSync(directory);
  expect(names()).toContain(`${uploadId}.part`);
  await sweepBlobs(swept);
  expect((await refused(blobs.stat('default', gone))).reason).toBe('BLOB_NOT_FOUND');
  expect(names().filter((name) => name.includes(gone.slice(0, 16)) || name.startsWith(uploadId))).toEqual([]);
  expect(names()).toContain(`${before.contentId}.${kept.slice(0, 16)}`);
  expect((await refused(blobs.append('default', uploadId, 3, new Uint8Array(2)))).reason).toBe('BLOB_UPLOAD_NOT_FOUND');
});
