import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { expect, type TestAPI } from 'vitest';
import type { Sql } from '../database/connection.ts';
import type { BlobStore } from './blob-store.ts';
import { beginUpload, commitUpload, useBlob } from './blobs.ts';

export const MIB = 1024 * 1024;
export const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

let lastId = 1000n;
export const newId = (): string => String(++lastId);

/** What every place for blobs has to do, whatever it is. */
export function blobStoreContract(test: TestAPI, open: () => { sql: Sql; store: BlobStore; directory?: string }): void {
  const ttlMs = 60_000;
  const maxBytes = 100 * MIB;

  async function begin(sizeBytes: number): Promise<string> {
    const { sql, store } = open();
    const id = newId();
    await beginUpload(sql, { id, namespaceId: 1, sizeBytes, place: store.place, ttlMs });
    return id;
  }
  const append = (uploadId: string, offset: number, data: Uint8Array) => {
    const { sql, store } = open();
    return store.append(sql, { uploadId, namespaceId: 1, offset, data, ttlMs, maxBytes });
  };
  async function upload(bytes: Uint8Array, chunk = MIB): Promise<string> {
    const id = await begin(bytes.byteLength);
    for (let offset = 0; offset < bytes.byteLength; offset += chunk)
      expect(await append(id, offset, bytes.subarray(offset, offset + chunk))).toMatchObject({ taken: true });
    return id;
  }
  async function readAll(contentId: string, sha256: string, from = 0): Promise<Uint8Array> {
    const { sql, store } = open();
    const parts: Uint8Array[] = [];
    for (let offset = from; ; ) {
      const data = await store.read(sql, { contentId, sha256 }, offset, MIB);
      if (data.byteLength === 0) return new Uint8Array(Buffer.concat(parts));
      expect(data.byteLength).toBeLessThanOrEqual(MIB);
      parts.push(data);
      offset += data.byteLength;
    }
  }

  test('bytes come back as they were sent, from any offset, whatever the chunks were', async () => {
    const { sql, store } = open();
    for (const chunk of [MIB, 100_003, 777]) {
      const bytes = randomBytes(chunk === 777 ? 20_000 : 2 * MIB + 17);
      const sha256 = hashOf(bytes);
      const id = await upload(bytes, chunk);
      expect(await store.seal(sql, { contentId: id, sha256 }, bytes.byteLength)).toBe(true);
      for (const from of [0, 1, 776, 777, 12_345, bytes.byteLength - 1, bytes.byteLength])
        expect(hashOf(await readAll(id, sha256, from))).toBe(hashOf(bytes.subarray(from)));
      expect((await store.read(sql, { contentId: id, sha256 }, 3, 5)).byteLength).toBe(5);
    }
  });

  test('a repeated chunk is not taken twice, a gap not at all, nor what is longer than announced', async () => {
    const id = await begin(10);
    expect(await append(id, 0, new Uint8Array(4))).toEqual({ sizeBytes: 10, receivedBytes: 0, taken: true });
    expect(await append(id, 0, new Uint8Array(4))).toEqual({ sizeBytes: 10, receivedBytes: 4, taken: false });
    expect(await append(id, 5, new Uint8Array(5))).toEqual({ sizeBytes: 10, receivedBytes: 4, taken: false });
    expect(await append(id, 4, new Uint8Array(7))).toEqual({ sizeBytes: 10, receivedBytes: 4, taken: false });
    expect(await append(id, 4, new Uint8Array(6))).toMatchObject({ taken: true });
  });

  test('the same chunk from two callers at once is taken once', async () => {
    const bytes = randomBytes(300_000);
    const id = await begin(bytes.byteLength);
    const answers = await Promise.all(Array.from({ length: 8 }, () => append(id, 0, bytes)));
    expect(answers.filter((answer) => answer!.taken)).toHaveLength(1);
    const { sql, store } = open();
    expect(await store.seal(sql, { contentId: id, sha256: hashOf(bytes) }, bytes.byteLength)).toBe(true);
  });

  test('an upload that is unknown, of another namespace, or over gets nothing', async () => {
    const { sql, store } = open();
    const id = await begin(4);
    const chunk = { uploadId: id, namespaceId: 2, offset: 0, data: new Uint8Array(4), ttlMs, maxBytes };
    expect(await store.append(sql, chunk)).toBeNull();
    expect(await store.append(sql, { ...chunk, namespaceId: 1, uploadId: newId() })).toBeNull();
    await sql.unsafe(`update baton.blob_uploads set expires_at = clock_timestamp() - interval '1 s' where id = $1`, [
      id,
    ]);
    expect(await store.append(sql, { ...chunk, namespaceId: 1 })).toBeNull();
  });

  test('bytes that are not what was said are not sealed, and may be sealed for what they are', async () => {
    const { sql, store } = open();
    const bytes = randomBytes(1_000);
    const id = await upload(bytes);
    const other = hashOf(randomBytes(3));
    expect(await store.seal(sql, { contentId: id, sha256: other }, 1_000)).toBe(false);
    expect(await store.seal(sql, { contentId: id, sha256: hashOf(bytes) }, 1_000)).toBe(true);
    // Again, as a repeated commit does.
    expect(await store.seal(sql, { contentId: id, sha256: hashOf(bytes) }, 1_000)).toBe(true);
  });

  test('a commit makes a blob; another upload of the same bytes leaves the first one in place', async () => {
    const { sql, store } = open();
    const bytes = randomBytes(5_000);
    const sha256 = hashOf(bytes);
    const first = await upload(bytes);
    await store.seal(sql, { contentId: first, sha256 }, 5_000);
    expect(await useBlob(sql, 1, sha256, 1_000)).toBeNull();
    const words = { namespaceId: 1, sha256, receivedBytes: 5_000 };
    expect(await commitUpload(sql, { ...words, id: first })).toMatchObject({
      contentId: first,
      sizeBytes: 5_000,
      sha256,
    });
    expect(await commitUpload(sql, { ...words, id: first })).toBeNull();
    const second = await upload(bytes);
    await store.seal(sql, { contentId: second, sha256 }, 5_000);
    expect(await commitUpload(sql, { ...words, id: second })).toMatchObject({ contentId: first, place: store.place });
    await store.forget({ contentId: second, sha256 });
    await store.forgetUpload(second);
    expect(await readAll(first, sha256)).toEqual(new Uint8Array(bytes));
    const [chunks] = await sql.unsafe('select count(*)::int as n from baton.blob_chunks where content_id = $1', [
      second,
    ]);
    expect(chunks!.n).toBe(0);
    const { directory } = open();
    if (directory) expect(readdirSync(directory).filter((name) => name.startsWith(second))).toEqual([]);
  });

  test('an upload that grew since it was read is not committed', async () => {
    const { sql } = open();
    const bytes = randomBytes(10);
    const id = await begin(0);
    await append(id, 0, bytes);
    await append(id, 10, bytes);
    const words = { id, namespaceId: 1, sha256: hashOf(bytes) };
    expect(await commitUpload(sql, { ...words, receivedBytes: 10 })).toBeNull();
    expect(await commitUpload(sql, { ...words, receivedBytes: 20 })).not.toBeNull();
  });

  test('no bytes at all are a blob too', async () => {
    const { sql, store } = open();
    const sha256 = hashOf(new Uint8Array());
    const id = await begin(0);
    expect(await store.seal(sql, { contentId: id, sha256 }, 0)).toBe(true);
    expect(await readAll(id, sha256)).toEqual(new Uint8Array());
  });
}
