import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { scene } from '../database/scene.fixture.ts';
import { startedFunction } from '../functions/functions.fixture.ts';
import { createNodeHash } from '../node.ts';
import { completeTasks } from '../tasks/complete.ts';
import { postgresBlobs } from './blob-postgres.ts';
import { blobStoreContract, hashOf, MIB, newId } from './blob-stores.fixture.ts';
import { beginUpload, commitUpload, dropExpiredUploads, dropUnusedBlobs, knownContents, useBlob } from './blobs.ts';
import { saveCheckpoint } from './checkpoints.ts';

let db: MigratedDatabase;
beforeAll(async () => {
  db = await migratedDatabase({ max: 10 });
});
afterAll(() => db.drop());

const store = postgresBlobs();

describe('blobs in Postgres', () => {
  blobStoreContract(test, () => ({ sql: db.sql, store }));

  test("are hashed alike by Node's hash and the portable one", async () => {
    const bytes = randomBytes(3 * MIB + 5);
    const id = newId();
    await beginUpload(db.sql, { id, namespaceId: 1, sizeBytes: bytes.byteLength, place: 'postgres', ttlMs: 60_000 });
    for (let offset = 0; offset < bytes.byteLength; offset += MIB)
      await store.append(db.sql, {
        uploadId: id,
        namespaceId: 1,
        offset,
        data: bytes.subarray(offset, offset + MIB),
        ttlMs: 60_000,
        maxBytes: 100 * MIB,
      });
    const content = { contentId: id, sha256: hashOf(bytes) };
    const native = postgresBlobs({ createHash: createNodeHash });
    expect(await store.seal(db.sql, content, bytes.byteLength)).toBe(true);
    expect(await native.seal(db.sql, content, bytes.byteLength)).toBe(true);
  });
});

/** A committed blob in Postgres; its hash. */
async function blob(namespaceId = 1, bytes: Uint8Array = randomBytes(100)): Promise<string> {
  const id = newId();
  const sha256 = hashOf(bytes);
  await beginUpload(db.sql, { id, namespaceId, sizeBytes: bytes.byteLength, place: 'postgres', ttlMs: 60_000 });
  const chunk = { uploadId: id, namespaceId, offset: 0, data: bytes, ttlMs: 60_000, maxBytes: MIB };
  await store.append(db.sql, chunk);
  await commitUpload(db.sql, { id, namespaceId, sha256, receivedBytes: bytes.byteLength });
  return sha256;
}
const age = (sha256: string, hours: number) =>
  db.sql.unsafe(
    `update baton.blobs set used_at = clock_timestamp() - $2 * interval '1 h' where sha256 = decode($1, 'hex')`,
    [sha256, hours],
  );
const isThere = async (sha256: string) =>
  (await db.sql.unsafe(`select 1 from baton.blobs where sha256 = decode($1, 'hex')`, [sha256])).length > 0;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

describe('using a blob', () => {
  test('is of one namespace', async () => {
    const sha256 = await blob(1);
    expect(await useBlob(db.sql, 2, sha256, HOUR_MS)).toBeNull();
    expect(await useBlob(db.sql, 1, sha256, HOUR_MS)).toMatchObject({ sha256, sizeBytes: 100 });
  });

  test('marks it, but not again and again', async () => {
    const sha256 = await blob();
    const usedAt = async () =>
      (
        await db.sql.unsafe(
          `select used_at::text as at, xmin::text as version from baton.blobs where sha256 = decode($1, 'hex')`,
          [sha256],
        )
      )[0]!;
    const before = await usedAt();
    await useBlob(db.sql, 1, sha256, HOUR_MS);
    expect(await usedAt()).toEqual(before);
    await age(sha256, 2);
    await useBlob(db.sql, 1, sha256, HOUR_MS);
    expect(Date.now() - new Date((await usedAt()).at as string).getTime()).toBeLessThan(60_000);
  });
});

test('many who mark a blob at once all find it', async () => {
  for (let round = 0; round < 10; round++) {
    const sha256 = await blob();
    await age(sha256, 25);
    const found = await Promise.all(Array.from({ length: 8 }, () => useBlob(db.sql, 1, sha256, HOUR_MS)));
    expect(found.filter((each) => each === null)).toEqual([]);
  }
});

describe('the sweep of blobs', () => {
  test('deletes what nothing refers to, and no sooner than a day after its last use', async () => {
    const [old, young] = [await blob(), await blob()];
    await age(old, 25);
    await age(young, 23);
    const { gone } = await dropUnusedBlobs(db.sql, DAY_MS, 100);
    expect(gone.map((g) => g.sha256)).toEqual([old]);
    expect([await isThere(old), await isThere(young)]).toEqual([false, true]);
    const [chunks] = await db.sql.unsafe('select count(*)::int as n from baton.blob_chunks where content_id = $1', [
      gone[0]!.contentId,
    ]);
    expect(chunks!.n).toBe(0);
  });

  test('leaves inputs, outputs and checkpoints, and looks at each once in the time', async () => {
    const on = scene(db.sql);
    const lane = await on.lane('blobs');
    const [input, output, saved, foreign] = [await blob(), await blob(), await blob(), await blob(2)];
    await on.submit(lane, 1, { input: null, extra: { inputBlob: input } });
    await on.submit(lane, 1);
    const sessionId = await on.session('blobs');
    const grants = await on.claim(lane, sessionId, 2);
    const done = grants[0]!;
    await completeTasks(db.sql, [
      {
        taskId: done.taskId,
        epoch: done.epoch,
        sessionId,
        output: new Uint8Array(),
        encoding: 2,
        outputBlob: output,
        ranUs: 1,
      },
    ]);
    const held = grants[1]!;
    await saveCheckpoint(db.sql, {
      taskId: held.taskId,
      epoch: held.epoch,
      sessionId,
      saveId: 'save-0001',
      sha256: saved,
      data: null,
      encoding: 2,
      score: null,
      metadata: null,
    });
    for (const each of [input, output, saved, foreign]) await age(each, 48);
    const first = await dropUnusedBlobs(db.sql, DAY_MS, 100);
    // The same hash in another namespace is another blob, and nothing of that namespace refers to this one.
    expect(first.gone.map((g) => g.sha256)).toEqual([foreign]);
    expect(first.looked).toBe(4);
    expect(await dropUnusedBlobs(db.sql, DAY_MS, 100)).toEqual({ gone: [], looked: 0 });
  });

  test('leaves what the journal of a run refers to, also where the task that returned it has left the history', async () => {
    const on = scene(db.sql);
    const { runId } = await startedFunction(db.sql, on, await on.lane('journal-blobs'));
    const sha256 = await blob();
    await db.sql.unsafe(
      `insert into baton.journal (run_id, number, position, ended_at, kind, name, ref_id, encoding, output_blob)
       values ($1, 1, 1, clock_timestamp(), 'task', 'big', 4711, 2, decode($2, 'hex'))`,
      [runId, sha256],
    );
    await age(sha256, 48);
    expect((await dropUnusedBlobs(db.sql, DAY_MS, 100)).gone).toEqual([]);
    await db.sql.unsafe('delete from baton.runs where id = $1', [runId]);
    await age(sha256, 48);
    expect((await dropUnusedBlobs(db.sql, DAY_MS, 100)).gone.map((g) => g.sha256)).toEqual([sha256]);
  });

  test('a task whose blob is marked while the sweep waits keeps it', async () => {
    const sha256 = await blob();
    await age(sha256, 25);
    // The mark is written and not committed: the sweep passes the row over, it does not wait for it.
    const one = await db.sql.reserve();
    try {
      await one.unsafe('begin');
      await one.unsafe(`update baton.blobs set used_at = clock_timestamp() where sha256 = decode($1, 'hex')`, [sha256]);
      expect((await dropUnusedBlobs(db.sql, DAY_MS, 100)).gone).toEqual([]);
      await one.unsafe('commit');
    } finally {
      one.release();
    }
    expect((await dropUnusedBlobs(db.sql, DAY_MS, 100)).gone).toEqual([]);
    expect(await isThere(sha256)).toBe(true);
  });

  test('many sweeps at once and users between them: whoever was told that the blob is there has it', async () => {
    for (let round = 0; round < 20; round++) {
      const sha256 = await blob();
      await age(sha256, 25);
      const [used] = await Promise.all([
        useBlob(db.sql, 1, sha256, HOUR_MS),
        dropUnusedBlobs(db.sql, DAY_MS, 100),
        dropUnusedBlobs(db.sql, DAY_MS, 100),
      ]);
      expect(await isThere(sha256)).toBe(used !== null);
    }
  });
});

test('uploads are given up when their time is over, with their bytes', async () => {
  const id = newId();
  await beginUpload(db.sql, { id, namespaceId: 1, sizeBytes: 3, place: 'postgres', ttlMs: 60_000 });
  const chunk = { uploadId: id, namespaceId: 1, offset: 0, data: new Uint8Array(3), ttlMs: 60_000, maxBytes: MIB };
  await store.append(db.sql, chunk);
  await dropExpiredUploads(db.sql);
  expect(await knownContents(db.sql, [id, newId()])).toEqual(new Set([id]));
  await db.sql.unsafe(`update baton.blob_uploads set expires_at = clock_timestamp() where id = $1`, [id]);
  expect((await dropExpiredUploads(db.sql)).map((gone) => gone.id)).toContain(id);
  expect(await knownContents(db.sql, [id])).toEqual(new Set());
  const rows = await db.sql.unsafe('select 1 from baton.blob_chunks where content_id = $1', [id]);
  expect(rows).toHaveLength(0);
});
