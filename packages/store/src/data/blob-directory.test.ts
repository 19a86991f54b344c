import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { BlobDirectoryUnusable, directoryBlobs } from './blob-directory.ts';
import { BlobBytesMissing, type BlobStore } from './blob-store.ts';
import { blobStoreContract, hashOf, newId } from './blob-stores.fixture.ts';
import { beginUpload, knownContents } from './blobs.ts';

let db: MigratedDatabase;
let directory: string;
let store: BlobStore;
beforeAll(async () => {
  db = await migratedDatabase({ max: 10 });
  directory = join(mkdtempSync(join(tmpdir(), 'baton-blobs-')), 'a', 'b');
  store = await directoryBlobs(directory);
});
afterAll(async () => {
  rmSync(join(directory, '..', '..'), { recursive: true, force: true });
  await db.drop();
});

async function upload(bytes: Uint8Array): Promise<string> {
  const id = newId();
  await beginUpload(db.sql, { id, namespaceId: 1, sizeBytes: bytes.byteLength, place: 'directory', ttlMs: 60_000 });
  const chunk = { uploadId: id, namespaceId: 1, offset: 0, data: bytes, ttlMs: 60_000, maxBytes: 1e8 };
  expect(await store.append(db.sql, chunk)).toMatchObject({ taken: true });
  return id;
}
const files = (id: string) => readdirSync(directory).filter((name) => name.startsWith(`${id}.`));

describe('blobs in a directory', () => {
  blobStoreContract(test, () => ({ sql: db.sql, store, directory }));

  test('have one file each, with the name of content and hash; nothing half-written stays', async () => {
    const bytes = randomBytes(100_000);
    const sha256 = hashOf(bytes);
    const id = await upload(bytes);
    expect(files(id)).toEqual([`${id}.part`]);
    await store.seal(db.sql, { contentId: id, sha256 }, 100_000);
    await store.forgetUpload(id);
    expect(files(id)).toEqual([`${id}.${sha256.slice(0, 16)}`]);
    expect(hashOf(readFileSync(join(directory, files(id)[0]!)))).toBe(sha256);
    await store.forget({ contentId: id, sha256 });
    expect(files(id)).toEqual([]);
    await store.forget({ contentId: id, sha256 });
  });

  test('bytes that are not what was said leave no file but the upload', async () => {
    const id = await upload(randomBytes(50));
    expect(await store.seal(db.sql, { contentId: id, sha256: hashOf(randomBytes(3)) }, 50)).toBe(false);
    expect(files(id)).toEqual([`${id}.part`]);
  });

  test('a delayed write to an upload does not reach what was sealed', async () => {
    const bytes = randomBytes(50);
    const sha256 = hashOf(bytes);
    const id = await upload(bytes);
    await store.seal(db.sql, { contentId: id, sha256 }, 50);
    writeFileSync(join(directory, `${id}.part`), 'something else');
    expect(hashOf(await store.read(db.sql, { contentId: id, sha256 }, 0, 100))).toBe(sha256);
  });

  test.each(['../1', '1/../2', '/etc/passwd', '0', '-1', '1\u0000', '', '1e3', '.'])(
    'the name %j is refused, and no file is touched',
    async (contentId) => {
      const content = { contentId, sha256: 'a'.repeat(64) };
      await expect((async () => store.read(db.sql, content, 0, 10))()).rejects.toBeInstanceOf(RangeError);
      await expect((async () => store.forget(content))()).rejects.toBeInstanceOf(RangeError);
      await expect((async () => store.forgetUpload(contentId))()).rejects.toBeInstanceOf(RangeError);
      await expect(store.seal(db.sql, content, 1)).rejects.toBeInstanceOf(RangeError);
    },
  );

  test('a hash that is a path is refused', async () => {
    const content = { contentId: '1', sha256: '../../etc/passwd' };
    await expect((async () => store.read(db.sql, content, 0, 10))()).rejects.toBeInstanceOf(RangeError);
  });

  test('a directory that cannot be one is refused at the start, saying what to do', async () => {
    const file = join(directory, 'README');
    writeFileSync(file, '');
    const error = await directoryBlobs(file).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BlobDirectoryUnusable);
    expect((error as BlobDirectoryUnusable).hint).toContain('BATON_BLOB_DIRECTORY');
  });

  test('what is not there is said to be missing', async () => {
    const content = { contentId: newId(), sha256: 'a'.repeat(64) };
    await expect(store.read(db.sql, content, 0, 10)).rejects.toBeInstanceOf(BlobBytesMissing);
    await expect(store.seal(db.sql, content, 10)).rejects.toBeInstanceOf(BlobBytesMissing);
    const id = await upload(randomBytes(10));
    await expect(store.seal(db.sql, { contentId: id, sha256: 'a'.repeat(64) }, 11)).rejects.toBeInstanceOf(
      BlobBytesMissing,
    );
    expect(files(id)).toEqual([`${id}.part`]);
  });

  test('what a crash left behind goes when it is old; known blobs and files of others stay', async () => {
    const bytes = randomBytes(10);
    const [known, stray] = [await upload(bytes), newId()];
    const old = new Date(Date.now() - 90_000_000);
    const put = (name: string, at?: Date) => {
      const file = join(directory, name);
      writeFileSync(file, 'x');
      if (at) utimesSync(file, at, at);
    };
    const hash = 'a'.repeat(16);
    const temporary = `${known}.00000000-0000-4000-8000-000000000000.tmp`;
    for (const name of [`${known}.${hash}`, `${stray}.${hash}`, `${stray}.part`, temporary, 'README', 'notes.part'])
      put(name, old);
    const young = newId();
    put(`${young}.${hash}`);
    expect(await store.removeStray((ids) => knownContents(db.sql, ids), 86_400_000)).toBe(3);
    expect(files(stray)).toEqual([]);
    expect(files(known)).toEqual([`${known}.${hash}`, `${known}.part`]);
    expect(files(young)).toEqual([`${young}.${hash}`]);
    expect(readdirSync(directory)).toEqual(expect.arrayContaining(['README', 'notes.part']));
  });
});
