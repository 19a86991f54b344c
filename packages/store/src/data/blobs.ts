import type { Sql } from '../database/connection.ts';
import { bytesOfHex, numbers } from '../database/literals.ts';
import type { BlobContent, BlobPlace, FoundUpload } from './blob-store.ts';

/** A committed blob. */
export interface BlobRow extends BlobContent {
  sizeBytes: number;
  place: BlobPlace;
  createdAt: Date;
}

export interface UploadRow extends Omit<FoundUpload, 'taken'> {
  place: BlobPlace;
}

const toBlob = (r: Record<string, unknown>): BlobRow => ({
  sha256: r.sha256 as string,
  sizeBytes: Number(r.size_bytes),
  contentId: r.content_id as string,
  place: r.place as BlobPlace,
  createdAt: r.created_at as Date,
});

const BLOB = `encode(b.sha256, 'hex') as sha256, b.size_bytes, b.content_id, b.place, b.created_at`;

/**
 * Finds a blob that something is about to refer to, and marks it as used: the guard between those who refer and the sweep. What was
 * marked within `freshMs` is not marked again, so that a thousand tasks with one input do not write a thousand times; `freshMs` must
 * be far below the time for which unreferenced blobs are kept.
 */
export async function useBlob(sql: Sql, namespaceId: number, sha256: string, freshMs: number): Promise<BlobRow | null> {
  const [row] = await sql.unsafe(
    `/* baton use blob */
     with seen as materialized (
       select b.*, b.used_at < clock_timestamp() - $3::double precision * interval '1 ms' as stale from baton.blobs b
       where b.namespace_id = $1 and b.sha256 = $2
     ), used as (
       update baton.blobs b set used_at = clock_timestamp()
       from seen s where s.stale and b.namespace_id = s.namespace_id and b.sha256 = s.sha256 returning ${BLOB}
     )
     select * from used union all select ${BLOB} from seen b where not stale`,
    [namespaceId, bytesOfHex(sha256), freshMs],
    { prepare: true },
  );
  return row ? toBlob(row) : null;
}

/** As `useBlob`, in the namespace of a session. */
export async function useBlobOfSession(
  sql: Sql,
  sessionId: string,
  sha256: string,
  freshMs: number,
): Promise<BlobRow | null> {
  const [session] = await sql.unsafe('select namespace_id from baton.sessions where id = $1', [sessionId], {
    prepare: true,
  });
  return session ? useBlob(sql, session.namespace_id as number, sha256, freshMs) : null;
}

export async function beginUpload(
  sql: Sql,
  upload: { id: string; namespaceId: number; sizeBytes: number; place: BlobPlace; ttlMs: number },
): Promise<void> {
  await sql.unsafe(
    `/* baton begin upload */ insert into baton.blob_uploads (id, namespace_id, size_bytes, place, expires_at)
     values ($1, $2, $3, $4, clock_timestamp() + $5::double precision * interval '1 ms') on conflict do nothing`,
    [upload.id, upload.namespaceId, upload.sizeBytes, upload.place, upload.ttlMs],
    { prepare: true },
  );
}

/** An upload that is under way; null: there is none (any more). */
export async function readUpload(sql: Sql, namespaceId: number, id: string): Promise<UploadRow | null> {
  const [row] = await sql.unsafe(
    `/* baton read upload */ select size_bytes, received_bytes, place from baton.blob_uploads
     where id = $1 and namespace_id = $2 and expires_at > clock_timestamp()`,
    [id, namespaceId],
    { prepare: true },
  );
  return row
    ? {
        sizeBytes: Number(row.size_bytes),
        receivedBytes: Number(row.received_bytes),
        place: row.place as BlobPlace,
      }
    : null;
}

/**
 * Turns an upload into a blob, in one statement: from then on it can be referred to. Where the same bytes are kept already, those
 * stand and the upload's go. Null: the upload is not there (any more), or is no longer as it was read.
 */
export async function commitUpload(
  sql: Sql,
  upload: { id: string; namespaceId: number; sha256: string; receivedBytes: number },
): Promise<BlobRow | null> {
  const [row] = await sql.unsafe(
    `/* baton commit blob */
     with upload as materialized (
       select * from baton.blob_uploads where id = $1 and namespace_id = $2 and received_bytes = $4 for update
     ), kept as (
       insert into baton.blobs as b (namespace_id, sha256, size_bytes, content_id, place)
       select namespace_id, $3, received_bytes, id, place from upload
       on conflict (namespace_id, sha256) do update set used_at = clock_timestamp()
       returning ${BLOB}
     ), done as (
       delete from baton.blob_uploads u using upload where u.id = upload.id
     ), surplus as (
       delete from baton.blob_chunks c using kept k where c.content_id = $1 and k.content_id <> $1
     )
     select * from kept`,
    [upload.id, upload.namespaceId, bytesOfHex(upload.sha256), upload.receivedBytes],
    { prepare: true },
  );
  return row ? toBlob(row) : null;
}

/** Gives up uploads whose time is over; bytes in Postgres go with them. Returns those that were. */
export async function dropExpiredUploads(sql: Sql): Promise<{ id: string; place: BlobPlace }[]> {
  const rows = await sql.unsafe(
    `/* baton drop uploads */
     with old as materialized (
       select id from baton.blob_uploads where expires_at < clock_timestamp() order by id limit 100 for update skip locked
     ), gone as (
       delete from baton.blob_uploads u using old where u.id = old.id returning u.id, u.place
     ), bytes as (
       delete from baton.blob_chunks c using gone g where c.content_id = g.id
     )
     select id, place from gone`,
    [],
    { prepare: true },
  );
  return rows.map((r) => ({ id: r.id as string, place: r.place as BlobPlace }));
}

export interface GoneContent extends BlobContent {
  place: BlobPlace;
}

/**
 * Deletes blobs that nothing refers to and that were not used for `unusedMs`; bytes in Postgres go with them. What is referred to is
 * marked as used, so that each blob is looked at once in that time, however many there are.
 *
 * A task that is being stored while this runs has marked its blob before: either this statement sees the mark, or the row's lock
 * makes it look again, or the mark is older than `unusedMs` and so the task is there to be seen.
 *
 * @returns the contents that are gone, and how many blobs were looked at
 */
export async function dropUnusedBlobs(
  sql: Sql,
  unusedMs: number,
  limit: number,
): Promise<{ gone: GoneContent[]; looked: number }> {
  const rows = await sql.unsafe(
    `/* baton drop blobs */
     with old as materialized (
       select namespace_id, sha256 from baton.blobs
       where used_at < clock_timestamp() - $1::double precision * interval '1 ms' order by used_at limit $2 for update skip locked
     ), judged as materialized (
       select o.*, exists (select from baton.tasks t where t.namespace_id = o.namespace_id and t.input_blob = o.sha256)
                or exists (select from baton.outcomes e where e.namespace_id = o.namespace_id and e.output_blob = o.sha256)
                or exists (select from baton.runs u where u.namespace_id = o.namespace_id and u.output_blob = o.sha256)
                or exists (select from baton.checkpoints c where c.in_blob and c.sha256 = o.sha256)
                or exists (select from baton.journal j where j.output_blob = o.sha256)
                or exists (select from baton.artifacts a where a.namespace_id = o.namespace_id and a.sha256 = o.sha256)
                or exists (select from baton.artifact_inputs a where a.namespace_id = o.namespace_id and a.sha256 = o.sha256) as referred
       from old o
     ), gone as (
       delete from baton.blobs b using judged j where b.namespace_id = j.namespace_id and b.sha256 = j.sha256 and not j.referred
       returning b.content_id, b.sha256, b.place
     ), needed as (
       update baton.blobs b set used_at = clock_timestamp()
       from judged j where b.namespace_id = j.namespace_id and b.sha256 = j.sha256 and j.referred
     ), bytes as (
       delete from baton.blob_chunks c using gone g where c.content_id = g.content_id and g.place = 'postgres'
     )
     select (select count(*)::integer from old) as looked, g.content_id, encode(g.sha256, 'hex') as sha256, g.place from (values (1)) one left join gone g on true`,
    [unusedMs, limit],
    { prepare: true },
  );
  return {
    looked: (rows[0]?.looked as number | undefined) ?? 0,
    gone: rows
      .filter((r) => r.content_id !== null)
      .map((r) => ({ contentId: r.content_id as string, sha256: r.sha256 as string, place: r.place as BlobPlace })),
  };
}

/** Which of these are named by a blob or an upload. */
export async function knownContents(sql: Sql, contentIds: readonly string[]): Promise<Set<string>> {
  const rows = await sql.unsafe(
    `/* baton known contents */ select content_id as id from baton.blobs where content_id = any($1::bigint[])
     union select id from baton.blob_uploads where id = any($1::bigint[])`,
    [numbers(contentIds)],
    { prepare: true },
  );
  return new Set(rows.map((r) => r.id as string));
}
