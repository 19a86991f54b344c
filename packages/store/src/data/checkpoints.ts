import type { Sql } from '../database/connection.ts';
import { base64, bytesOfHex } from '../database/literals.ts';
import type { Encoding } from '../tasks/new-task.ts';

/** A checkpoint about to be saved, under the fence of its lease. */
export interface NewCheckpoint {
  taskId: string;
  epoch: number;
  sessionId: string;
  /** Made by the worker for this save. */
  saveId: string;
  /** Hex; of `data`, or of the blob. */
  sha256: string;
  /** Null: a blob holds the bytes. */
  data: Uint8Array | null;
  encoding: Encoding;
  score: number | null;
  metadata: Record<string, string> | null;
}

export interface SaveAnswer {
  /** The session holds this lease. Without it nothing was written. */
  held: boolean;
  /** The number; null: the lease is not held, or the blob is not there. */
  number: string | null;
  /** An earlier call had saved it already; nothing was written now. */
  repeated: boolean;
}

/**
 * Saves a checkpoint in one statement: the lease is looked up and locked as in COMPLETE, then number, row, event and sign of progress.
 *
 * Saves of one task come one after the other by the lease's lock. The statement's own look at earlier saves may be older than that
 * lock: then two calls of one save both count, and the second fails on the key of `checkpoint_saves`, whole. `saveCheckpoint` looks again.
 * Numbers come from a counter that is locked by its row, so they have no gap in the order of the commits.
 *
 * A new one forgets crashes, as progress in a journal does: what kills its worker now is another part of the work. Their attempts are no
 * failures of the task's code: its lease has as many more than the task (see `HeldAttempt.forgiven`).
 */
export const SAVE_CHECKPOINT = `/* baton save checkpoint */
with data as materialized (
  select decode($6::text, 'base64') as bytes
), held as materialized (
  select l.* from (values ($1::bigint, $2::integer, $3::bigint)) i(task_id, epoch, session_id) cross join lateral (
    select l.task_id, l.epoch, l.attempt, l.session_id, l.lane_id, l.run_id, l.crashes from baton.leases l
    where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id limit 1 for update
  ) l
), known as materialized (
  select number from baton.checkpoint_saves where task_id = $1 and save_id = $4
), blob as (
  update baton.blobs b set used_at = clock_timestamp()
  from held h join baton.lanes a on a.id = h.lane_id
  where $6::text is null and b.namespace_id = a.namespace_id and b.sha256 = $5
  returning b.size_bytes
), counted as (
  insert into baton.checkpoint_counters as c (task_id, last_number)
  select task_id, 1 from held
  where not exists (select from known) and ($6::text is not null or exists (select from blob))
  on conflict (task_id) do update set last_number = c.last_number + 1
  returning task_id, last_number as number
), noted as (
  insert into baton.checkpoint_saves (task_id, save_id, number, epoch) select task_id, $4, number, $2 from counted
), forgotten as (
  delete from baton.checkpoint_saves s using counted c where s.task_id = c.task_id and s.epoch < $2
), saved as materialized (
  select h.*, c.number, a.namespace_id, s.worker_id, clock_timestamp() as at
  from counted c join held h on h.task_id = c.task_id join baton.lanes a on a.id = h.lane_id join baton.sessions s on s.id = h.session_id
), kept as (
  insert into baton.checkpoints (task_id, number, created_at, size_bytes, score, epoch, worker_id, attempt, encoding, sha256, data, in_blob,
                                 save_id, metadata)
  select task_id, number, at, coalesce((select octet_length(bytes) from data), (select size_bytes from blob)), $8::double precision, epoch, worker_id, attempt,
         $7::smallint, $5::bytea, (select bytes from data), $6::text is null, $4, $9::text::jsonb
  from saved
), signed as (
  update baton.progress p set sign_at = clock_timestamp() from saved s where p.task_id = s.task_id and p.epoch = s.epoch
), recovered as (
  update baton.leases l set crashes = 0, max_attempts = least(l.max_attempts + l.crashes, 32767) where l.task_id = any(array(select s.task_id from saved s where s.crashes > 0))
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array[namespace_id], array[16::smallint], array[task_id], array[coalesce(run_id, 0)], array[attempt], array[worker_id] from saved
)
select exists (select from held) as held, (select number from known) as known, (select number from saved) as number`;

export async function saveCheckpoint(sql: Sql, checkpoint: NewCheckpoint): Promise<SaveAnswer> {
  for (let tries = 1; ; tries++) {
    try {
      const [row] = await sql.unsafe(
        SAVE_CHECKPOINT,
        [
          checkpoint.taskId,
          checkpoint.epoch,
          checkpoint.sessionId,
          checkpoint.saveId,
          bytesOfHex(checkpoint.sha256),
          checkpoint.data === null ? null : base64(checkpoint.data),
          checkpoint.encoding,
          checkpoint.score,
          checkpoint.metadata === null ? null : JSON.stringify(checkpoint.metadata),
        ],
        { prepare: true },
      );
      const known = row!.known as string | null;
      // Nobody but the holder of the lease is told a number.
      return {
        held: row!.held as boolean,
        number: row!.held ? (known ?? (row!.number as string | null)) : null,
        repeated: known !== null,
      };
    } catch (error) {
      if ((error as { code?: string }).code !== '23505' || tries >= 3) throw error;
    }
  }
}

export interface CheckpointRow {
  taskId: string;
  number: string;
  attempt: number;
  epoch: number;
  createdAt: Date;
  sizeBytes: number;
  sha256: string;
  encoding: Encoding;
  score: number | null;
  metadata: Record<string, string> | null;
  inBlob: boolean;
  worker: string;
  /** Where it was asked for and is small. */
  data: Uint8Array | null;
}

const columns = (
  data: boolean,
) => `c.task_id, c.number, c.attempt, c.epoch, c.created_at, c.size_bytes, encode(c.sha256, 'hex') as sha256,
  c.encoding, c.score, c.metadata, c.in_blob, w.name as worker, ${data ? 'c.data' : 'null::bytea as data'}`;

const toCheckpoint = (r: Record<string, unknown>): CheckpointRow => ({
  taskId: r.task_id as string,
  number: r.number as string,
  attempt: r.attempt as number,
  epoch: r.epoch as number,
  createdAt: r.created_at as Date,
  sizeBytes: Number(r.size_bytes),
  sha256: r.sha256 as string,
  encoding: r.encoding as Encoding,
  score: r.score as number | null,
  metadata: r.metadata as Record<string, string> | null,
  inBlob: r.in_blob as boolean,
  worker: r.worker as string,
  data: r.data as Uint8Array | null,
});

/** The newest checkpoint, or one by its number, for the holder of the lease. */
export async function loadCheckpoint(
  sql: Sql,
  lease: { taskId: string; epoch: number; sessionId: string },
  number: string,
): Promise<{ held: boolean; checkpoint: CheckpointRow | null }> {
  const [row] = await sql.unsafe(
    `/* baton load checkpoint */ select l.task_id is not null as held, ${columns(true)}
     from (values (1)) one
     left join lateral (
       select task_id from baton.leases l where l.task_id = $1 and l.epoch = $2 and l.session_id + 0 = $3 limit 1
     ) l on true
     left join lateral (
       select * from baton.checkpoints c where c.task_id = l.task_id and c.task_id = $1 and ($4::bigint = 0 or c.number = $4) order by c.number desc limit 1
     ) c on true
     left join baton.workers w on w.id = c.worker_id`,
    [lease.taskId, lease.epoch, lease.sessionId, number],
    { prepare: true },
  );
  return { held: row!.held as boolean, checkpoint: row!.number === null ? null : toCheckpoint(row!) };
}

/** Whether this task is in this namespace, and whether it has ended. Null: it is not. */
export async function findTask(sql: Sql, namespaceId: number, taskId: string): Promise<{ ended: boolean } | null> {
  const [row] = await sql.unsafe(
    `/* baton find task */ select exists (select from baton.outcomes o where o.task_id = $2) as ended
     from baton.tasks t where t.id = $2 and t.namespace_id = $1`,
    [namespaceId, taskId],
    { prepare: true },
  );
  return row ? { ended: row.ended as boolean } : null;
}

/** Newest first, below a number. */
export async function listCheckpoints(
  sql: Sql,
  taskId: string,
  before: string | null,
  limit: number,
): Promise<CheckpointRow[]> {
  const rows = await sql.unsafe(
    `/* baton list checkpoints */ select ${columns(false)} from baton.checkpoints c join baton.workers w on w.id = c.worker_id
     where c.task_id = $1 and c.number < $2 order by c.number desc limit $3`,
    [taskId, before ?? '9223372036854775807', limit],
    { prepare: true },
  );
  return rows.map(toCheckpoint);
}

/** One with its bytes, where they are small. `best`: of the highest score, the newer of two; null where none is scored. */
export async function readCheckpoint(
  sql: Sql,
  taskId: string,
  which: { number: string } | 'newest' | 'best',
): Promise<CheckpointRow | null> {
  const select = `/* baton read checkpoint */ select ${columns(true)} from baton.checkpoints c join baton.workers w on w.id = c.worker_id where c.task_id = $1`;
  const [row] =
    typeof which === 'object'
      ? await sql.unsafe(`${select} and c.number = $2`, [taskId, which.number], { prepare: true })
      : await sql.unsafe(
          which === 'best'
            ? `${select} and c.score is not null order by c.score desc, c.number desc limit 1`
            : `${select} order by c.number desc limit 1`,
          [taskId],
          { prepare: true },
        );
  return row ? toCheckpoint(row) : null;
}

/** Deletes one, unless it is the newest of a task that has not ended. */
export async function deleteCheckpoint(sql: Sql, taskId: string, number: string): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton delete checkpoint */ delete from baton.checkpoints c where c.task_id = $1 and c.number = $2
     and (exists (select from baton.checkpoints n where n.task_id = $1 and n.number > $2) or exists (select from baton.outcomes o where o.task_id = $1))
     returning 1`,
    [taskId, number],
    { prepare: true },
  );
  return rows.length > 0;
}

/**
 * Deletes all but the last few and, with `keepBest`, the one of the highest score. `keepLast` is at least 1: the newest is where a new
 * attempt starts.
 */
export async function pruneCheckpoints(
  sql: Sql,
  taskId: string,
  keepLast: number,
  keepBest: boolean,
): Promise<{ deleted: number; freedBytes: number }> {
  const [row] = await sql.unsafe(
    `/* baton prune checkpoints */
     with oldest as materialized (
       select min(number) as number from (select number from baton.checkpoints where task_id = $1 order by number desc limit $2) l
     ), best as materialized (
       select number from baton.checkpoints where task_id = $1 and score is not null and $3::boolean order by score desc, number desc limit 1
     ), gone as (
       delete from baton.checkpoints c where c.task_id = $1 and c.number < (select number from oldest)
         and c.number is distinct from (select number from best)
       returning c.size_bytes
     )
     select count(*)::integer as deleted, coalesce(sum(size_bytes), 0)::bigint as freed from gone`,
    [taskId, Math.max(1, keepLast), keepBest],
    { prepare: true },
  );
  return { deleted: row!.deleted as number, freedBytes: Number(row!.freed) };
}

export interface CheckpointStatistics {
  count: number;
  tasks: number;
  sizeBytes: number;
  inBlobs: number;
  oldest: Date | null;
  newest: Date | null;
  bestScore: number | null;
}

/** Of one task, or (null) of a namespace. */
export async function checkpointStatistics(
  sql: Sql,
  namespaceId: number,
  taskId: string | null,
): Promise<CheckpointStatistics> {
  const facts = `count(*)::integer as count, count(distinct c.task_id)::integer as tasks, coalesce(sum(c.size_bytes), 0)::bigint as size_bytes,
    count(*) filter (where c.in_blob)::integer as in_blobs, min(c.created_at) as oldest, max(c.created_at) as newest, max(c.score) as best_score`;
  const [row] =
    taskId !== null
      ? await sql.unsafe(
          `/* baton checkpoint statistics */ select ${facts} from baton.checkpoints c where c.task_id = $1`,
          [taskId],
          { prepare: true },
        )
      : await sql.unsafe(
          `/* baton checkpoint statistics */ select ${facts} from baton.checkpoints c join baton.tasks t on t.id = c.task_id where t.namespace_id = $1`,
          [namespaceId],
          { prepare: true },
        );
  return {
    count: row!.count as number,
    tasks: row!.tasks as number,
    sizeBytes: Number(row!.size_bytes),
    inBlobs: row!.in_blobs as number,
    oldest: row!.oldest as Date | null,
    newest: row!.newest as Date | null,
    bestScore: row!.best_score as number | null,
  };
}

/** Forgets saves of leases that are not held any more: a repeated call of theirs is refused by the fence. */
export async function forgetSaves(sql: Sql): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton forget saves */ delete from baton.checkpoint_saves s
     where not exists (select from baton.leases l where l.task_id = s.task_id and l.epoch = s.epoch) returning 1`,
    [],
    { prepare: true },
  );
  return rows.length;
}
