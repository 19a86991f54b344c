import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import { MACHINE_MADE_ATTEMPT } from '../workers/breakers.ts';
import { type Grant, toGrant } from './claim.ts';

/** So many of the worker's failures are asked which queue and kind they were of, the newest first. */
export const LOOKED_AT = 200;

/**
 * Grants at most one task to a session whose worker's breaker is half-open and has no probe, and makes that task the probe.
 *
 * Before priority and age goes what the worker has not failed by itself: the queue and kind whose tasks never failed by the machine
 * there, then that of the oldest such failure. Else several tasks of one kind that is at fault would be all that is tried, for as long
 * as they are tried again, and what is well would wait behind them. A failed probe puts its own kind last, so each has its turn.
 *
 * Beside what CLAIM asks, the breaker's row is locked first: of any number of grants at once, on any number of masters, the others wait
 * for it and then find a probe. Like CLAIM it holds the session's and the lane's row until the commit.
 */
export const CLAIM_PROBE = `/* baton claim probe */
with probing as materialized (
  select b.worker_id from baton.sessions s join baton.breakers b on b.worker_id = s.worker_id and b.device = ''
  where s.id = $2 and b.state = 'half_open' and b.probe_task_id is null
  for update of b
), taker as materialized (
  select s.id, s.namespace_id, s.worker_id, s.expires_at from probing p join baton.sessions s on s.id = $2 and s.worker_id = p.worker_id
  where s.state = 'active' and s.expires_at > clock_timestamp()
  for share of s
), failed as materialized (
  select t.route_id, max(a.ended_at) as last_at from probing p
  cross join lateral (
    select a.task_id, a.ended_at from baton.attempts a
    where a.worker_id = p.worker_id and ${MACHINE_MADE_ATTEMPT}
    order by a.ended_at desc limit ${LOOKED_AT}
  ) a
  cross join lateral (select t.route_id from baton.tasks t where t.id = a.task_id limit 1) t
  group by t.route_id
), heads as materialized (
  select r.* from taker
  cross join unnest($1::integer[]) as w(lane_id)
  join baton.lanes l on l.id = w.lane_id and not l.paused
  cross join lateral (
    select y.ctid as at, y.lane_id, y.priority, y.position from baton.ready y
    where y.lane_id = l.id
    order by y.priority desc, y.position
    limit 1 for update skip locked
  ) r
  left join failed f on f.route_id = l.route_id
  order by f.last_at nulls first, r.priority desc, r.position limit 1
), granting as materialized (
  select l.id from baton.lanes l where l.id = any(array(select lane_id from heads)) and not l.paused for share of l
), granted as (
  delete from baton.ready y using heads h, granting g, taker s
  where g.id = h.lane_id and y.ctid = h.at and s.expires_at > clock_timestamp()
  returning y.*, s.id as session_id, s.namespace_id, s.worker_id
), leased as (
  insert into baton.leases (task_id, session_id, granted_at, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt,
                            max_attempts, crashes, infra, ooms, input_encoding)
  select task_id, session_id, clock_timestamp(), position, run_id, start_to_close_ms, lane_id, epoch + 1, priority, attempt + 1,
         max_attempts, crashes, infra, ooms, input_encoding
  from granted
), marked as (
  update baton.breakers b set probe_task_id = g.task_id, probe_epoch = g.epoch + 1
  from granted g where b.worker_id = g.worker_id and b.device = ''
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array[namespace_id], array[3::smallint], array[task_id], array[coalesce(run_id, 0)], array[(attempt + 1)::smallint], array[worker_id]
  from granted
)
select session_id, task_id, lane_id, epoch + 1 as epoch, attempt + 1 as attempt, max_attempts, start_to_close_ms, run_id,
       input_encoding, input
from granted`;

/** @returns the probe, or nothing: the breaker has one, is not half-open, or no task is ready */
export async function claimProbe(sql: Sql, laneIds: readonly number[], sessionId: string): Promise<Grant[]> {
  const rows = await sql.unsafe(CLAIM_PROBE, [numbers(laneIds), sessionId], { prepare: true });
  return rows.map(toGrant);
}
