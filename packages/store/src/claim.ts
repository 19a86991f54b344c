import type { Sql } from './connection.ts';
import { numbers } from './literals.ts';
import type { Encoding } from './submit.ts';

export interface Want {
  sessionId: string;
  /** Tasks at most. */
  count: number;
}

export interface Grant {
  sessionId: string;
  taskId: string;
  laneId: number;
  epoch: number;
  attempt: number;
  maxAttempts: number;
  startToCloseMs: number;
  runId: string | null;
  encoding: Encoding;
  /** Null when the input did not ride along: read it with loadSpecs. */
  input: Uint8Array | null;
}

/**
 * Moves the heads of the given lanes from ready to leases, by priority, then by age, over all lanes together.
 *
 * Guards, in this one statement: the lane is not paused; the session is active, not held back by its breaker, and its time is not
 * over (looked at once more when its lock is there: a wait for it takes its time). Rows that another claim holds are skipped. A session that is refused leaves its share in ready. The session's row is locked
 * (shared) until the commit: whoever drains, closes or holds back a session waits for grants under way, and none comes after. So are
 * the rows of the lanes that have something, for whoever pauses a queue. That costs 1 µs a task in batches of 20, and nothing that
 * can be measured in batches of 500 (1 lane, 1 and 3 connections at once).
 *
 * The lateral claim takes up to the whole number from each lane and keeps the best of all; what it locks beyond that is freed
 * at the commit. One claim over 1 000 lanes costs 8 µs a task more than over one.
 *
 * Of one lane that gave the whole number it is told whether there is more behind: two looks at the index, 10 µs, instead of a claim of
 * 200 µs that finds nothing.
 */
export const CLAIM = `/* baton claim */
with heads as materialized (
  select r.*
  from unnest($1::integer[]) as w(lane_id)
  join baton.lanes l on l.id = w.lane_id and not l.paused
  cross join lateral (
    select y.ctid as at, y.lane_id, y.priority, y.position from baton.ready y
    where y.lane_id = l.id
    order by y.priority desc, y.position
    limit $2 for update skip locked
  ) r
  order by r.priority desc, r.position limit $2
), granting as materialized (
  select l.id from baton.lanes l where l.id = any(array(select lane_id from heads)) and not l.paused order by l.id for share of l
), numbered as (
  select h.at, row_number() over (order by h.priority desc, h.position) as n from heads h join granting g on g.id = h.lane_id
), takers as materialized (
  select s.id, s.namespace_id, s.worker_id, s.expires_at, w.lo, w.hi
  from unnest($3::bigint[], $4::integer[], $5::integer[]) w(session_id, lo, hi)
  join baton.sessions s on s.id = w.session_id
  where s.state = 'active' and not s.held_back and s.expires_at > clock_timestamp()
  order by s.id for share of s
), granted as (
  delete from baton.ready y
  using numbered h
  join takers s on h.n > s.lo and h.n <= s.hi and s.expires_at > clock_timestamp()
  where y.ctid = h.at
  returning y.*, s.id as session_id, s.namespace_id, s.worker_id
), leased as (
  insert into baton.leases (task_id, session_id, granted_at, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt,
                            max_attempts, crashes, infra, ooms, input_encoding)
  select task_id, session_id, clock_timestamp(), position, run_id, start_to_close_ms, lane_id, epoch + 1, priority, attempt + 1,
         max_attempts, crashes, infra, ooms, input_encoding
  from granted
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(3::smallint), array_agg(task_id), array_agg(coalesce(run_id, 0)),
         array_agg((attempt + 1)::smallint), array_agg(worker_id)
  from granted having count(*) > 0
)
select session_id, task_id, lane_id, epoch + 1 as epoch, attempt + 1 as attempt, max_attempts, start_to_close_ms, run_id,
       input_encoding, input,
       (select exists (select from baton.ready y where y.lane_id = ($1::integer[])[1] and y.priority = h.priority and y.position > h.position)
            or exists (select from baton.ready y where y.lane_id = ($1::integer[])[1] and y.priority < h.priority)
        from (select priority, position from heads offset $2 - 1 limit 1) h where cardinality($1::integer[]) = 1) as more
from granted`;

export interface Claimed {
  grants: Grant[];
  /** Nothing was left in these lanes when they were looked at, but for what others hold. */
  isDry: boolean;
}

export async function claimTasks(sql: Sql, laneIds: readonly number[], wants: readonly Want[]): Promise<Grant[]> {
  return (await claimHeads(sql, laneIds, wants)).grants;
}

/** As `claimTasks`, and whether the lanes have more. */
export async function claimHeads(sql: Sql, laneIds: readonly number[], wants: readonly Want[]): Promise<Claimed> {
  const lo: number[] = [];
  const hi: number[] = [];
  let total = 0;
  for (const want of wants) {
    lo.push(total);
    total += want.count;
    hi.push(total);
  }
  const rows = await sql.unsafe(
    CLAIM,
    [numbers(laneIds), total, numbers(wants.map((w) => w.sessionId)), numbers(lo), numbers(hi)],
    { prepare: true },
  );
  return { grants: rows.map(toGrant), isDry: rows.length < total || rows[0]?.more === false };
}

export function toGrant(r: Record<string, unknown>): Grant {
  return {
    sessionId: r.session_id as string,
    taskId: r.task_id as string,
    laneId: r.lane_id as number,
    epoch: r.epoch as number,
    attempt: r.attempt as number,
    maxAttempts: r.max_attempts as number,
    startToCloseMs: Number(r.start_to_close_ms),
    runId: r.run_id as string | null,
    encoding: r.input_encoding as Encoding,
    input: r.input as Uint8Array | null,
  };
}

export interface Spec {
  input: Uint8Array | null;
  /** Where the input is a blob: its SHA-256 (hex) and size. */
  inputBlob: { sha256: string; sizeBytes: number } | null;
  /** As `tasks.executor_config` has it. */
  executor: Record<string, unknown> | null;
  nodeId: string | null;
  progressTimeoutMs: number | null;
  /** Number of the newest committed checkpoint; '0': none. */
  checkpoint: string;
}

/** What did not ride along with the claim: large inputs, executors' settings, node names, timeouts and checkpoints. */
export async function loadSpecs(sql: Sql, taskIds: readonly string[]): Promise<Map<string, Spec>> {
  const rows = await sql.unsafe(
    `/* baton load specs */
     select t.id, t.input, t.executor_config, t.node_id, t.progress_timeout_ms, encode(t.input_blob, 'hex') as input_blob, b.size_bytes,
            coalesce(c.last_number, 0) as checkpoint
     from unnest($1::bigint[]) w(id) join baton.tasks t on t.id = w.id
     left join baton.blobs b on b.namespace_id = t.namespace_id and b.sha256 = t.input_blob
     left join baton.checkpoint_counters c on c.task_id = t.id`,
    [numbers(taskIds)],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => [
      r.id as string,
      {
        input: r.input as Uint8Array | null,
        inputBlob: r.input_blob ? { sha256: r.input_blob as string, sizeBytes: Number(r.size_bytes) } : null,
        executor: r.executor_config as Spec['executor'],
        nodeId: r.node_id as string | null,
        progressTimeoutMs: r.progress_timeout_ms === null ? null : Number(r.progress_timeout_ms),
        checkpoint: String(r.checkpoint),
      },
    ]),
  );
}
