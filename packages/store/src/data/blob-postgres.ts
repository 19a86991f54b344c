import type { Sql } from '../database/connection.ts';
import { base64, bytesOfBase64, hex } from '../database/literals.ts';
import {
  BLOB_CHUNK_BYTES,
  BlobBytesMissing,
  type BlobStore,
  createPortableHash,
  type IncrementalHash,
} from './blob-store.ts';

/**
 * Keeps the bytes of blobs in `blob_chunks`. Needs nothing but the database, and is backed up with it.
 *
 * The hash is made here, chunk by chunk: in Postgres it would be one expression over all bytes, 300 MiB of the server's memory for a
 * blob of 100.
 */
export function postgresBlobs(options: { createHash?: () => IncrementalHash } = {}): BlobStore {
  const { createHash = createPortableHash } = options;

  async function read(sql: Sql, contentId: string, offset: number, maxBytes: number): Promise<Uint8Array> {
    // From the chunk that the offset is in. Clients choose the size of their chunks: small ones are gathered.
    const [row] = await sql.unsafe(
      `/* baton read blob */
       select encode(substring(string_agg(case when byte_offset < $2 then substring(data from ($2 - byte_offset + 1)::integer) else data end,
                                   ''::bytea order by byte_offset) from 1 for $3::integer), 'base64') as data
       from (
         select byte_offset, data from baton.blob_chunks
         where content_id = $1 and byte_offset < $2::bigint + $3
           and byte_offset >= coalesce((select max(byte_offset) from baton.blob_chunks where content_id = $1 and byte_offset <= $2), 0)
         order by byte_offset limit 1000
       ) c`,
      [contentId, offset, Math.min(maxBytes, BLOB_CHUNK_BYTES)],
      { prepare: true },
    );
    return bytesOfBase64((row?.data as string | null) ?? '');
  }

  return {
    place: 'postgres',
    async append(sql, { uploadId, namespaceId, offset, data, ttlMs, maxBytes }) {
      const [row] = await sql.unsafe(
        `/* baton append blob */
         with upload as materialized (
           select id, size_bytes, received_bytes from baton.blob_uploads
           where id = $1 and namespace_id = $2 and expires_at > clock_timestamp() for update
         ), chunk as (
           insert into baton.blob_chunks (content_id, byte_offset, data)
           select id, $3, decode($4::text, 'base64') from upload
           where received_bytes = $3 and $3::bigint + $7::integer <= case when size_bytes > 0 then size_bytes else $6::bigint end
           returning content_id
         ), moved as (
           update baton.blob_uploads u
           set received_bytes = $3::bigint + $7::integer, expires_at = clock_timestamp() + $5::double precision * interval '1 ms'
           from chunk c where u.id = c.content_id
         )
         select size_bytes, received_bytes, exists (select from chunk) as taken from upload`,
        [uploadId, namespaceId, offset, base64(data), ttlMs, maxBytes, data.byteLength],
        { prepare: true },
      );
      return row
        ? { sizeBytes: Number(row.size_bytes), receivedBytes: Number(row.received_bytes), taken: row.taken as boolean }
        : null;
    },
    async seal(sql, { contentId, sha256 }, sizeBytes) {
      const hash = createHash();
      for (let offset = 0; offset < sizeBytes; ) {
        const data = await read(sql, contentId, offset, BLOB_CHUNK_BYTES);
        if (data.byteLength === 0) throw new BlobBytesMissing(contentId, 'in blob_chunks');
        hash.update(data);
        offset += data.byteLength;
      }
      return hex(hash.digest()) === sha256;
    },
    read: (sql, { contentId }, offset, maxBytes) => read(sql, contentId, offset, maxBytes),
    // Bytes go with their rows, in the same statements.
    forgetUpload: async () => {},
    forget: async () => {},
    removeStray: async () => 0,
  };
}
