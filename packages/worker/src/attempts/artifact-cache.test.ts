import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '@baton/telemetry';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ArtifactCache, type ArtifactCacheOptions, type FetchBytes } from './artifact-cache.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'baton-cache-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const open = (options: Partial<ArtifactCacheOptions> = {}) =>
  new ArtifactCache({ directory: home, maxBytes: 10_000_000, log: silentLogger, ...options });
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const cached = (sha256: string) => join(home, 'artifacts', 'files', sha256.slice(0, 2), sha256);
const partsOf = () => readdirSync(join(home, 'artifacts', 'tmp'));

async function* once(bytes: Uint8Array) {
  yield bytes;
}

/** Serves bytes in pieces, and remembers from where it was asked. */
function source(bytes: Uint8Array, piece = 1_000) {
  const asked: number[] = [];
  const fetch: FetchBytes = async (from, take) => {
    asked.push(from);
    for (let at = from; at < bytes.length; at += piece) await take(bytes.subarray(at, at + piece));
  };
  return { asked, fetch };
}

let names = 0;
const target = () => join(home, `out-${++names}`);

test('what is fetched once is at hand afterwards, for this process and the next', async () => {
  const bytes = randomBytes(5_000);
  const { asked, fetch } = source(bytes);
  for (const cache of [open(), open()]) {
    const at = target();
    await cache.place(hashOf(bytes), 5_000, at, fetch);
    expect(readFileSync(at)).toEqual(bytes);
    expect(statSync(at).mode & 0o222).toBe(0);
  }
  expect(asked).toEqual([0]);
});

test('those who want the same at once share one fetch', async () => {
  const bytes = randomBytes(5_000);
  const { asked, fetch } = source(bytes);
  const cache = open();
  const targets = [target(), target(), target()];
  await Promise.all(targets.map((at) => cache.place(hashOf(bytes), 5_000, at, fetch)));
  expect(asked).toEqual([0]);
  for (const at of targets) expect(readFileSync(at)).toEqual(bytes);
  expect(cache.stats).toMatchObject({ fetches: 1, fetchedBytes: 5_000 });
});

test('where one who fetches is stopped, another goes on from what has come', async () => {
  const bytes = randomBytes(5_000);
  const cache = open();
  const [begun, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const stopped = cache.place(hashOf(bytes), 5_000, target(), async (_, take) => {
    await take(bytes.subarray(0, 3_000));
    begun.resolve();
    await over.promise;
    throw new Error('stopped');
  });
  // Of two that begin in one moment either may be the one who fetches.
  await begun.promise;
  const { asked, fetch } = source(bytes);
  const at = target();
  const other = cache.place(hashOf(bytes), 5_000, at, fetch);
  over.resolve();
  await expect(stopped).rejects.toThrow('stopped');
  await other;
  expect(asked).toEqual([3_000]);
  expect(readFileSync(at)).toEqual(bytes);
  expect(partsOf()).toEqual([]);
});

test('what a process that died has left is gone on with; where that was damaged, all comes again', async () => {
  for (const left of ['sound', 'damaged']) {
    const bytes = randomBytes(5_000);
    await open().directoryFor('x');
    const part = Buffer.from(bytes.subarray(0, 2_000));
    if (left === 'damaged') part[7]! ^= 1;
    // No process has this number.
    writeFileSync(join(home, 'artifacts', 'tmp', `${hashOf(bytes)}.99999999-x.part`), part);
    const { asked, fetch } = source(bytes);
    const at = target();
    await open().place(hashOf(bytes), 5_000, at, fetch);
    expect(asked).toEqual(left === 'sound' ? [2_000] : [2_000, 0]);
    expect(readFileSync(at)).toEqual(bytes);
  }
});

test('a damaged file is found out before it is used, in its life and in the next, and fetched again', async () => {
  const bytes = randomBytes(5_000);
  const { asked, fetch } = source(bytes);
  const first = open();
  await first.place(hashOf(bytes), 5_000, target(), fetch);
  for (const cache of [first, open()]) {
    const file = cached(hashOf(bytes));
    rmSync(file);
    const wrong = Buffer.from(bytes);
    wrong[4_999]! ^= 1;
    writeFileSync(file, wrong);
    const at = target();
    await cache.place(hashOf(bytes), 5_000, at, fetch);
    expect(readFileSync(at)).toEqual(bytes);
    expect(cache.stats.damaged).toBe(1);
  }
  expect(asked).toEqual([0, 0, 0]);
});

test('what comes and is something else is refused, and nothing of it stays', async () => {
  const cache = open();
  const bytes = randomBytes(5_000);
  const wrong = hashOf(randomBytes(4));
  await expect(cache.place(wrong, 5_000, target(), source(bytes).fetch)).rejects.toThrow('ARTIFACT_CORRUPT');
  await expect(cache.place(wrong, 4_000, target(), source(bytes).fetch)).rejects.toThrow('ARTIFACT_CORRUPT');
  expect(partsOf()).toEqual([]);
});

test('what is taken in is at hand without a fetch, and stays as it was where it was put', async () => {
  const cache = open();
  const bytes = randomBytes(5_000);
  const kept = target();
  const { sha256, sizeBytes } = await cache.take(once(bytes), kept);
  expect([sha256, sizeBytes]).toEqual([hashOf(bytes), 5_000]);
  await cache.place(sha256, 5_000, target(), () => Promise.reject(new Error('it is there')));
  rmSync(cached(sha256));
  expect(readFileSync(kept)).toEqual(bytes);
});

test('above its limit the cache lets go of what was not used for longest; those who have a file keep it', async () => {
  const cache = open({ maxBytes: 12_000 });
  const files = [randomBytes(5_000), randomBytes(5_000), randomBytes(5_000)];
  const targets = files.map(() => target());
  for (const i of [0, 1]) await cache.place(hashOf(files[i]!), 5_000, targets[i]!, source(files[i]!).fetch);
  // Times of files are what they are told by.
  await new Promise((resolve) => setTimeout(resolve, 20));
  await cache.place(hashOf(files[0]!), 5_000, target(), source(files[0]!).fetch);
  await cache.place(hashOf(files[2]!), 5_000, targets[2]!, source(files[2]!).fetch);
  expect(() => statSync(cached(hashOf(files[1]!)))).toThrow('ENOENT');
  for (const i of [0, 2]) expect(statSync(cached(hashOf(files[i]!))).size).toBe(5_000);
  for (const [i, at] of targets.entries()) expect(readFileSync(at)).toEqual(files[i]);
});

test('a file that is larger than the whole cache is handed on all the same', async () => {
  const cache = open({ maxBytes: 1_000 });
  const bytes = randomBytes(5_000);
  const at = target();
  await cache.place(hashOf(bytes), 5_000, at, source(bytes).fetch);
  expect(readFileSync(at)).toEqual(bytes);
});

test('a full disk is room made first, and then a failure that says what to do', async () => {
  let full = 1;
  const write: ArtifactCacheOptions['write'] = async (file, data, offset) => {
    if (full-- > 0) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    await file.write(data, 0, data.length, offset);
  };
  const cache = open({ write });
  const bytes = randomBytes(5_000);
  await cache.place(hashOf(bytes), 5_000, target(), source(bytes).fetch);
  full = 1_000;
  const other = randomBytes(5_000);
  const failed = cache.place(hashOf(other), 5_000, target(), source(other).fetch);
  await expect(failed).rejects.toMatchObject({ reason: 'DISK_FULL' });
  await expect(failed).rejects.toThrow('BATON_CACHE_DIR');
  await expect(cache.take(once(other), target())).rejects.toMatchObject({ reason: 'DISK_FULL' });
  expect(partsOf()).toEqual([]);
});

test('a directory that cannot be one is a failure that names it', async () => {
  writeFileSync(join(home, 'file'), '');
  const cache = open({ directory: join(home, 'file') });
  await expect(cache.take(once(randomBytes(3)), target())).rejects.toMatchObject({ reason: 'CACHE_UNUSABLE' });
});

test('directories of attempts whose process is gone are removed; those of the living stay', async () => {
  const mine = await open().directoryFor('1-1');
  const gone = join(home, 'artifacts', 'attempts', '99999999-2-1-abc');
  writeFileSync(join(mine, 'x'), '');
  mkdirSync(gone);
  await open().directoryFor('3-1');
  expect(() => statSync(gone)).toThrow('ENOENT');
  expect(statSync(join(mine, 'x')).isFile()).toBe(true);
});
