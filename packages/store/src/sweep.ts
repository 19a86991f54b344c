import type { Sql } from './connection.ts';

/** Any number that all Batons agree on, unlike the others. */
const SWEEP_LOCK = 0x62617432;

/** After this much time without a sweep there was an outage, and sessions are extended by it. */
export const OUTAGE_MS = 3_000;

export interface SweptSession {
  sessionId: string;
  workerId: number;
  reason: string | null;
}

/**
 * Closes sessions whose time is over, once, whichever master comes first: the lock belongs to the statement's transaction, so a
 * master that is stopped in the middle holds nothing. After a gap in the sweeping itself nobody is closed; everybody gets the gap
 * on top, and at least a whole lease from now: nobody could renew meanwhile, and all come back at once. Returns sessions that are closed and still hold leases, those of earlier sweeps included: they are for the caller to settle.
 */
export const SWEEP_SESSIONS = `/* baton sweep sessions */
with mine as materialized (
  select pg_try_advisory_xact_lock(${SWEEP_LOCK}) as got
), gap as materialized (
  select clock_timestamp() - last_at as length from baton.sweeps, mine where name = 'sessions' and mine.got
), swept as (
  update baton.sweeps set last_at = clock_timestamp() where name = 'sessions' and exists (select from gap) returning 1
), extended as (
  update baton.sessions s set expires_at = greatest(s.expires_at + gap.length, clock_timestamp() + (s.expires_at - s.renewed_at))
  from gap where gap.length > interval '${OUTAGE_MS} ms' and s.state <> 'closed' returning s.id
), closed as (
  update baton.sessions s set state = 'closed', reason = coalesce(s.reason, 'no heartbeat')
  from gap where gap.length <= interval '${OUTAGE_MS} ms' and s.state <> 'closed' and s.expires_at < clock_timestamp()
  returning s.id, s.namespace_id, s.worker_id, s.reason
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(13::smallint), array_agg(0::bigint), array_agg(0::bigint), array_agg(0::smallint), array_agg(worker_id)
  from closed having count(*) > 0
)
select id, worker_id, reason, true as now from closed
union all
select s.id, s.worker_id, s.reason, false from baton.sessions s, mine
where mine.got and s.state = 'closed' and exists (select from baton.leases l where l.session_id = s.id)`;

export async function sweepSessions(sql: Sql): Promise<(SweptSession & { now: boolean })[]> {
  const rows = await sql.unsafe(SWEEP_SESSIONS, [], { prepare: true });
  return rows.map((r) => ({
    sessionId: r.id as string,
    workerId: r.worker_id as number,
    reason: r.reason as string | null,
    now: r.now as boolean,
  }));
}

/** Leases whose work began and has been going on for longer than start-to-close plus the grace in which the worker should have said so. */
export async function overdueLeases(
  sql: Sql,
  graceMs: number,
): Promise<{ taskId: string; epoch: number; sessionId: string; startToCloseMs: number }[]> {
  const rows = await sql.unsafe(
    `/* baton overdue */ select task_id, epoch, session_id, start_to_close_ms from baton.leases
     where started_at + (start_to_close_ms + $1::double precision) * interval '1 ms' < clock_timestamp() order by task_id limit 1000`,
    [graceMs],
    { prepare: true },
  );
  return rows.map((r) => ({
    taskId: r.task_id as string,
    epoch: r.epoch as number,
    sessionId: r.session_id as string,
    startToCloseMs: Number(r.start_to_close_ms),
  }));
}

/** Forgets sessions that ended a day ago; attempts keep their worker. */
export async function dropOldSessions(sql: Sql): Promise<number> {
  const rows = await sql.unsafe(
    `delete from baton.sessions s where state = 'closed' and renewed_at < clock_timestamp() - interval '1 day'
     and not exists (select from baton.leases l where l.session_id = s.id) returning 1`,
  );
  return rows.length;
}

export async function ensurePartitions(sql: Sql): Promise<number> {
  const [row] = await sql.unsafe('select baton.ensure_partitions() as made');
  return row!.made as number;
}
