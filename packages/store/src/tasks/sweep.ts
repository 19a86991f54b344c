import type { Sql } from '../database/connection.ts';

/** Any number that all Batons agree on, unlike the others. */
const SWEEP_LOCK = 0x62617432;

/**
 * After this much time without a sweep there was an outage, and sessions are extended by it; where the lease time is not known better.
 * See `outageMs` of the engine: a third of the lease is what a worker that renews three times a lease does without harm.
 */
export const OUTAGE_MS = 3_000;

export interface SweptSession {
  sessionId: string;
  workerId: number;
  reason: string | null;
}

/**
 * Closes sessions whose time is over, once, whichever master comes first: the lock belongs to the statement's transaction, so a
 * master that is stopped in the middle holds nothing. No master's own clock is asked: one that was stopped for hours, and goes on,
 * sees when the others swept last.
 *
 * After a gap in the sweeping itself nobody is closed; everybody gets the gap on top, and, once for each renewal, at least a whole
 * lease from now: nobody could renew meanwhile, and all come back at once. Who did not renew since the outage before had that
 * lease already, so that sessions of the dead end even where one outage follows the other. Returns sessions that are closed and still
 * hold leases, those of earlier sweeps included: they are for the caller to settle.
 */
export const SWEEP_SESSIONS = `/* baton sweep sessions */
with mine as materialized (
  select pg_try_advisory_xact_lock(${SWEEP_LOCK}) as got
), gap as materialized (
  -- All is judged by the moment at which the gap was measured: whatever stops this statement after it makes nobody late.
  select w.now, w.now - w.last_at as length, w.now - w.last_at > $1::double precision * interval '1 ms' as is_outage, w.resumed_at
  from (select clock_timestamp() as now, last_at, resumed_at from baton.sweeps, mine where name = 'sessions' and mine.got) w
), swept as (
  update baton.sweeps w set last_at = gap.now, resumed_at = case when gap.is_outage then gap.now else w.resumed_at end
  from gap where w.name = 'sessions'
), living as materialized (
  select s.id from baton.sessions s, gap where gap.is_outage and s.state <> 'closed' order by s.id for update of s
), extended as (
  update baton.sessions s set expires_at = case
    when s.renewed_at >= gap.resumed_at then greatest(s.expires_at + gap.length, clock_timestamp() + (s.expires_at - s.renewed_at))
    else s.expires_at + gap.length end
  from gap, living where s.id = living.id
), late as materialized (
  -- Who is being renewed at this moment is not late.
  select s.id from baton.sessions s, gap
  where not gap.is_outage and s.state <> 'closed' and s.expires_at < gap.now order by s.id for update of s skip locked
), closed as (
  update baton.sessions s set state = 'closed', reason = coalesce(s.reason, 'no heartbeat')
  from late where s.id = late.id
  returning s.id, s.namespace_id, s.worker_id, s.reason
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(13::smallint), array_agg(0::bigint), array_agg(0::bigint), array_agg(0::smallint), array_agg(worker_id)
  from closed having count(*) > 0
)
select id, worker_id, reason, true as now from closed
union all
-- A worker that left hands back what it held itself: that costs its tasks nothing. Only where that did not come about is it done here.
select s.id, s.worker_id, s.reason, false from baton.sessions s, gap
where s.state = 'closed' and s.expires_at < gap.now and exists (select from baton.leases l where l.session_id = s.id)`;

/** @param outageMs a longer time without a sweep was an outage */
export async function sweepSessions(
  sql: Sql,
  outageMs: number = OUTAGE_MS,
): Promise<(SweptSession & { now: boolean })[]> {
  const rows = await sql.unsafe(SWEEP_SESSIONS, [outageMs], { prepare: true });
  return rows.map((r) => ({
    sessionId: r.id as string,
    workerId: r.worker_id as number,
    reason: r.reason as string | null,
    now: r.now as boolean,
  }));
}

/** Forgets sessions that ended a day ago, some of them; attempts keep their worker. Returns how many. */
export async function dropOldSessions(sql: Sql, limit = 5_000): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop old sessions */ delete from baton.sessions where id = any(array(
       select s.id from baton.sessions s where s.state = 'closed' and s.renewed_at < clock_timestamp() - interval '1 day'
         and not exists (select from baton.leases l where l.session_id = s.id) order by s.id limit $1)) returning 1`,
    [limit],
    { prepare: true },
  );
  return rows.length;
}

export async function ensurePartitions(sql: Sql): Promise<number> {
  const [row] = await sql.unsafe('select baton.ensure_partitions() as made');
  return row!.made as number;
}
