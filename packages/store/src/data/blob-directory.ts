import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Sql } from '../database/connection.ts';
import { BLOB_CHUNK_BYTES, BlobBytesMissing, type BlobContent, type BlobStore } from './blob-store.ts';

const CONTENT_ID = /^[1-9][0-9]{0,18}$/;
const SHA256 = /^[0-9a-f]{64}$/;
/** Content, upload, or content that is being written. */
const OURS = /^([1-9][0-9]{0,18})(\.[0-9a-f]{16}|\.part|\.[0-9a-f-]{36}\.tmp)$/;

/** The directory for blobs cannot be made, read or written. */
export class BlobDirectoryUnusable extends Error {
  override readonly name = 'BlobDirectoryUnusable';
  readonly hint: string;

  constructor(path: string, cause: unknown) {
    super(`blobs cannot be kept in ${path}: ${(cause as Error).message}`, { cause });
    this.hint = `make ${path} a directory that this user may write, or leave BATON_BLOB_DIRECTORY unset: then blobs are kept in Postgres`;
  }
}

/**
 * Keeps the bytes of blobs as files: `ID.HASH` (the first 16 digits) for a blob, `ID.part` for an upload. Several masters share one
 * directory.
 *
 * An upload is copied while it is hashed, and the copy takes its name when it is whole and on disk: what is hashed is what stays,
 * whatever a delayed write does to the upload.
 *
 * @param path made when it is not there
 * @throws BlobDirectoryUnusable
 */
export async function directoryBlobs(path: string): Promise<BlobStore> {
  const root = resolve(path);
  try {
    await mkdir(root, { recursive: true, mode: 0o700 });
    await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new BlobDirectoryUnusable(root, error);
  }

  // Names come from rows; one with a path in it must never be made, whoever wrote the row.
  const uploadFile = (contentId: string, suffix = 'part'): string => {
    if (!CONTENT_ID.test(contentId)) throw new RangeError(`${JSON.stringify(contentId)} is not a content id`);
    return join(root, `${contentId}.${suffix}`);
  };
  const fileOf = ({ contentId, sha256 }: BlobContent): string => {
    if (!SHA256.test(sha256)) throw new RangeError(`${JSON.stringify(sha256)} is not a SHA-256`);
    return uploadFile(contentId, sha256.slice(0, 16));
  };
  const missing = (contentId: string, error: unknown): unknown =>
    (error as NodeJS.ErrnoException).code === 'ENOENT' ? new BlobBytesMissing(contentId, `in ${root}`) : error;

  async function readFrom(file: string, contentId: string, offset: number, maxBytes: number): Promise<Uint8Array> {
    const handle = await open(file, 'r').catch((error) => {
      throw missing(contentId, error);
    });
    try {
      const buffer = new Uint8Array(Math.min(maxBytes, BLOB_CHUNK_BYTES));
      const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, offset);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  }

  async function syncDirectory(): Promise<void> {
    const handle = await open(root, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  return {
    place: 'directory',
    async append(sql, { uploadId, namespaceId, offset, data, ttlMs, maxBytes }) {
      const found = await lookUp(sql, uploadId, namespaceId);
      if (found === null) return null;
      const limit = found.sizeBytes > 0 ? found.sizeBytes : maxBytes;
      if (found.receivedBytes !== offset || offset + data.byteLength > limit) return { ...found, taken: false };
      // Not emptied at the beginning: this may be a repeated call that comes late.
      const flags = offset === 0 ? constants.O_WRONLY | constants.O_CREAT : constants.O_WRONLY;
      const handle = await open(uploadFile(uploadId), flags, 0o600).catch((error) => {
        throw missing(uploadId, error);
      });
      try {
        // A write may be short.
        for (let at = 0; at < data.byteLength; )
          at += (await handle.write(data, at, data.byteLength - at, offset + at)).bytesWritten;
      } finally {
        await handle.close();
      }
      // Bytes first: the row never says more than is there. Whoever was quicker wrote the same.
      const [row] = await sql.unsafe(
        `/* baton appended blob */ update baton.blob_uploads
         set received_bytes = $3::bigint + $4, expires_at = clock_timestamp() + $5::double precision * interval '1 ms'
         where id = $1 and namespace_id = $2 and received_bytes = $3 returning size_bytes`,
        [uploadId, namespaceId, offset, data.byteLength, ttlMs],
        { prepare: true },
      );
      if (row) return { ...found, taken: true };
      const now = await lookUp(sql, uploadId, namespaceId);
      return now === null ? null : { ...now, taken: false };
    },
    async seal(_, content, sizeBytes) {
      const { contentId } = content;
      const file = fileOf(content);
      const temporary = uploadFile(contentId, `${randomUUID()}.tmp`);
      const hash = createHash('sha256');
      const copy = await open(temporary, 'wx', 0o600);
      try {
        for (let offset = 0; offset < sizeBytes; ) {
          const data = await readFrom(
            uploadFile(contentId),
            contentId,
            offset,
            Math.min(BLOB_CHUNK_BYTES, sizeBytes - offset),
          );
          if (data.byteLength === 0) throw new BlobBytesMissing(contentId, `in ${root}`);
          hash.update(data);
          for (let at = 0; at < data.byteLength; )
            at += (await copy.write(data, at, data.byteLength - at, offset + at)).bytesWritten;
          offset += data.byteLength;
        }
        await copy.sync();
      } catch (error) {
        await copy.close();
        await rm(temporary, { force: true });
        throw error;
      }
      await copy.close();
      if (hash.digest('hex') !== content.sha256) {
        await rm(temporary, { force: true });
        return false;
      }
      await rename(temporary, file);
      await syncDirectory();
      return true;
    },
    read: (_, content, offset, maxBytes) => readFrom(fileOf(content), content.contentId, offset, maxBytes),
    forgetUpload: (uploadId) => rm(uploadFile(uploadId), { force: true }),
    forget: (content) => rm(fileOf(content), { force: true }),
    async removeStray(isKnown, olderThanMs) {
      const names = (await readdir(root)).filter((name) => OURS.test(name));
      let removed = 0;
      for (let from = 0; from < names.length; from += 5_000) {
        const part = names.slice(from, from + 5_000);
        const known = await isKnown([...new Set(part.map((name) => OURS.exec(name)![1]!))]);
        for (const name of part) {
          const [, id, suffix] = OURS.exec(name)!;
          // Uploads and what is half-written are stray by their age alone: whoever wrote them is gone.
          if (known.has(id!) && suffix !== '.part' && !suffix!.endsWith('.tmp')) continue;
          const file = join(root, name);
          const about = await stat(file).catch(() => null);
          if (about === null || Date.now() - about.mtimeMs < olderThanMs) continue;
          await rm(file, { force: true });
          removed++;
        }
      }
      return removed;
    },
  };
}

async function lookUp(
  sql: Sql,
  uploadId: string,
  namespaceId: number,
): Promise<{ sizeBytes: number; receivedBytes: number } | null> {
  const [row] = await sql.unsafe(
    `/* baton find upload */ select size_bytes, received_bytes from baton.blob_uploads
     where id = $1 and namespace_id = $2 and expires_at > clock_timestamp()`,
    [uploadId, namespaceId],
    { prepare: true },
  );
  return row ? { sizeBytes: Number(row.size_bytes), receivedBytes: Number(row.received_bytes) } : null;
}
