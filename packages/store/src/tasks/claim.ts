import type { Sql } from '../database/connection.ts';
import { bytesOfBase64, numbers } from '../database/literals.ts';
import type { Encoding } from './new-task.ts';

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

/** The best of what each lane has, of this many of its rows. */
const HEADS = (rows: '$2' | '$6') => `select r.*
  from unnest($1::integer[]) as w(lane_id)
  cross join lateral (select l.id, l.route_id from baton.lanes l where l.id = w.lane_id and not l.paused limit 1) l
  cross join lateral (
    select y.ctid as at, y.lane_id, y.priority, y.position, l.route_id from baton.ready y
    where y.lane_id = l.id
    order by y.priority desc, y.position
    limit ${rows} for update skip locked
  ) r
  order by r.priority desc, r.position limit $2`;

/** What becomes of \`heads\`. */
const GRANT = `granting as materialized (
  select l.id, l.paused from baton.lanes l where l.id = any(array(select distinct lane_id from heads)) order by l.id for share of l
), numbered as (
  select h.at, h.route_id, row_number() over () as n from heads h
  where not h.lane_id = any(array(select id from granting where paused))
), takers as materialized (
  select s.id, s.namespace_id, s.worker_id, s.expires_at, w.lo, w.hi
  from (select * from unnest($3::bigint[], $4::integer[], $5::integer[]) w(session_id, lo, hi) order by session_id) w
  cross join lateral (
    select s.id, s.namespace_id, s.worker_id, s.expires_at from baton.sessions s
    where s.id = w.session_id and s.state = 'active' and not s.held_back and s.expires_at > clock_timestamp() limit 1 for share of s
  ) s
), granted as (
  delete from baton.ready y
  using numbered h
  join takers s on h.n > s.lo and h.n <= s.hi and s.expires_at > clock_timestamp()
  where y.ctid = h.at
  returning y.*, s.id as session_id, s.namespace_id, s.worker_id, h.route_id
), leased as (
  insert into baton.leases (task_id, session_id, granted_at, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt,
                            max_attempts, crashes, infra, ooms, input_encoding,
                            lane_namespace_id, lane_route_id, session_worker_id)
  select task_id, session_id, clock_timestamp(), position, run_id, start_to_close_ms, lane_id, epoch + 1, priority, attempt + 1,
         max_attempts, crashes, infra, ooms, input_encoding, namespace_id, route_id, worker_id
  from granted
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(3::smallint), array_agg(task_id), array_agg(coalesce(run_id, 0)),
         array_agg((attempt + 1)::smallint), array_agg(worker_id)
  from granted having count(*) > 0
)
select case when cardinality($3::bigint[]) > 1 then session_id end as session_id, task_id,
       case when cardinality($1::integer[]) > 1 then lane_id end as lane_id, nullif(epoch + 1, 1) as epoch,
       nullif(attempt + 1, 1) as attempt, max_attempts, start_to_close_ms, run_id, nullif(input_encoding, 1::smallint) as input_encoding,
       input, nullif((select exists (select from baton.ready y where y.lane_id = ($1::integer[])[1] and y.priority = h.priority and y.position > h.position)
            or exists (select from baton.ready y where y.lane_id = ($1::integer[])[1] and y.priority < h.priority)
        from (select priority, position from heads offset $2 - 1 limit 1) h where cardinality($1::integer[]) = 1), true) as more
from granted`;

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
 * at the commit. Over more than a few lanes, see CLAIM_WIDE.
 *
 * Lanes and sessions are looked up one by one, and lanes that are paused meanwhile are listed: joins, planned when there was one lane,
 * walked over all lanes for each head, and over the lanes asked for with each lane. What is what it mostly is (the only session, the only
 * lane, the first attempt) is told as null: that is half of what the driver has to read. The lease takes over what its end will
 * write down; that costs 0.5 µs here and saves 2 there.
 *
 * Of one lane that gave the whole number it is told whether there is more behind: two looks at the index, 10 µs, instead of a claim of
 * 200 µs that finds nothing.
 */
export const CLAIM = `/* baton claim */
with heads as materialized (
  ${HEADS('$2')}
), ${GRANT}`;

/**
 * As CLAIM, over many lanes. Of each only its first $6 rows are locked, a few more than its share; of the lanes that gave all of these, more
 * is looked at: four times as much, and of up to four such lanes the whole number. So what few lanes have that comes before all else is taken
 * first, exactly; where more than four lanes have more of it than that, the rest comes with the next claim. What comes behind the last
 * of the first rows, where those are enough, is not looked at: two scans of a lane, before its priority and within it, for the index runs
 * through both one way. With 1 000 lanes and 100 priorities that is 700 rows, where it was 7 000.
 *
 * µs of Postgres a task, 100 000 ready, claims of 500 and of 2 000: over 1 lane 12.4 and 10.9, over 10 lanes 14 and 13, over 100 lanes
 * 16 and 14, over 1 000 lanes 32 and 17. CLAIM, which locks as many of each lane, took 160 over 100 lanes and 300 over 1 000.
 */
export const CLAIM_WIDE = `/* baton claim wide */
with nearest as materialized (
  ${HEADS('$6')}
), worst as materialized (
  select priority, position from nearest order by priority desc, position offset $2 - 1 limit 1
), full_lanes as materialized (
  select lane_id, route_id, greatest(4 * $6, least($2, 4 * $2 / count(*) over ())) as most,
         (select priority from worst) as priority, (select position from worst) as position
  from nearest group by lane_id, route_id having count(*) >= $6
), heads as materialized (
  select * from nearest where not lane_id = any(array(select lane_id from full_lanes))
  union all
  select r.* from full_lanes f
  cross join lateral (
    select y.ctid as at, y.lane_id, y.priority, y.position, f.route_id from baton.ready y
    where y.lane_id = f.lane_id and y.priority > coalesce(f.priority, -32768)
    order by y.priority desc, y.position
    limit f.most for update skip locked
  ) r
  union all
  select r.* from full_lanes f
  cross join lateral (
    select y.ctid as at, y.lane_id, y.priority, y.position, f.route_id from baton.ready y
    where y.lane_id = f.lane_id and y.priority = coalesce(f.priority, -32768) and y.position <= coalesce(f.position, 9223372036854775807)
    order by y.position
    limit f.most for update skip locked
  ) r
  order by priority desc, position limit $2
), ${GRANT}`;

/** Over so many lanes claims lock the whole number of each; over more, about four times the number over all together. */
export const FEW_LANES = 4;

export interface Claimed {
  grants: Grant[];
  /** Nothing was left in these lanes when they were looked at, but for what others hold. */
  isDry: boolean;
}

/** A lane of a wide claim that gave so much may have more, though the claim came out short. */
function mostOfOneLane(grants: readonly Grant[]): number {
  const counts = new Map<number, number>();
  for (const { laneId } of grants) counts.set(laneId, (counts.get(laneId) ?? 0) + 1);
  return Math.max(0, ...counts.values());
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
  const params = [numbers(laneIds), total, numbers(wants.map((w) => w.sessionId)), numbers(lo), numbers(hi)];
  const share = Math.max(2, Math.ceil((2 * total) / laneIds.length));
  const isWide = laneIds.length > FEW_LANES && share < total;
  const rows = isWide
    ? await sql.unsafe(CLAIM_WIDE, [...params, share], { prepare: true })
    : await sql.unsafe(CLAIM, params, { prepare: true });
  const one = { sessionId: wants[0]?.sessionId, laneId: laneIds[0] };
  const grants = rows.map(
    (r): Grant => ({
      sessionId: (r.session_id ?? one.sessionId) as string,
      taskId: r.task_id as string,
      laneId: (r.lane_id ?? one.laneId) as number,
      epoch: (r.epoch ?? 1) as number,
      attempt: (r.attempt ?? 1) as number,
      maxAttempts: r.max_attempts as number,
      startToCloseMs: Number(r.start_to_close_ms),
      runId: r.run_id as string | null,
      encoding: (r.input_encoding ?? 1) as Encoding,
      input: r.input as Uint8Array | null,
    }),
  );
  const isShort = rows.length < total && !(isWide && mostOfOneLane(grants) >= 4 * share);
  return { grants, isDry: isShort || rows[0]?.more === false };
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
     select t.id, encode(t.input, 'base64') as input, t.executor_config, t.node_id, t.progress_timeout_ms, encode(t.input_blob, 'hex') as input_blob, b.size_bytes,
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
        input: r.input === null ? null : bytesOfBase64(r.input as string),
        inputBlob: r.input_blob ? { sha256: r.input_blob as string, sizeBytes: Number(r.size_bytes) } : null,
        executor: r.executor_config as Spec['executor'],
        nodeId: r.node_id as string | null,
        progressTimeoutMs: r.progress_timeout_ms === null ? null : Number(r.progress_timeout_ms),
        checkpoint: String(r.checkpoint),
      },
    ]),
  );
}
