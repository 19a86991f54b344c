import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import type { Ended } from './complete.ts';

/** A lease that is not known to have been started is not recalled before it is so old, ms: the worker had it in hand for a moment only. */
export const UNSTARTED_MS = 1_000;

/**
 * Ends tasks that nobody started in time, each where it is found:
 * - in `ready`, and not being claimed at this moment: failed, for good;
 * - in `leases`, not started: named in the answer, so that its worker is asked to hand it back; looked at again a second later.
 *   Whether it has begun is known from the worker's heartbeat, so one that has just begun may be named too: its worker keeps it;
 * - in `leases`, started: the row stays, for the next attempt, and is looked at again when its time would be over once more;
 * - in `waiting`: its time counts from when it is due;
 * - ended: the row is forgotten.
 *
 * Rows that another master looks at, or that a retry is moving, are skipped. Nothing here waits for a lock, so it may hold what it has.
 */
export const SWEEP_START_DEADLINES = `/* baton sweep start deadlines */
with due as materialized (
  select d.task_id, d.timeout_ms from baton.start_deadlines d
  where d.expires_at <= (select clock_timestamp()) order by d.expires_at limit $1 for update skip locked
), found as materialized (
  select d.task_id, d.timeout_ms, y.task_id is not null as is_ready, w.task_id is not null as is_waiting, w.due_at,
         l.session_id, l.granted_at, l.started_at
  from due d
  left join lateral (select y.task_id from baton.ready y where y.task_id = d.task_id limit 1) y on true
  left join lateral (select w.task_id, w.due_at from baton.waiting w where w.task_id = d.task_id limit 1) w on true
  left join lateral (select l.session_id, l.granted_at, l.started_at from baton.leases l where l.task_id = d.task_id limit 1) l on true
), taken as materialized (
  select y.at from found f cross join lateral (
    select y.ctid as at from baton.ready y where y.task_id = f.task_id limit 1 for update skip locked
  ) y where f.is_ready
), removed as (
  delete from baton.ready y using taken t where y.ctid = t.at
  returning y.task_id, y.run_id, y.lane_id, y.epoch, y.attempt
), ended as materialized (
  select r.task_id, r.run_id, r.epoch, r.attempt, a.namespace_id, a.route_id, clock_timestamp() as at,
         jsonb_build_object('type', 'TASK_TIMEOUT', 'nonRetryable', true,
                            'message', 'not started within ' || d.timeout_ms || ' ms: no worker took it') as failure
  from removed r join due d on d.task_id = r.task_id join baton.lanes a on a.id = r.lane_id
), kept as (
  insert into baton.outcomes (task_id, run_id, ended_at, namespace_id, route_id, epoch, attempt, state, failure)
  select task_id, run_id, at, namespace_id, route_id, epoch, attempt, 'failed', failure from ended
), advanced as (
  insert into baton.advances (run_id, task_id) select run_id, task_id from ended where run_id is not null
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(6::smallint), array_agg(task_id), array_agg(coalesce(run_id, 0)), array_agg(attempt), array_agg(0)
  from ended having count(*) > 0
), forgotten as (
  delete from baton.start_deadlines d using found f
  where d.task_id = f.task_id and (f.task_id in (select task_id from ended) or not (f.is_ready or f.is_waiting or f.session_id is not null))
), moved as (
  update baton.start_deadlines d set expires_at = case
      when f.is_waiting then greatest(coalesce(f.due_at, clock_timestamp()) + f.timeout_ms * interval '1 ms', clock_timestamp() + interval '100 ms')
      when f.started_at is not null then clock_timestamp() + greatest(f.timeout_ms, 60000) * interval '1 ms'
      when f.session_id is not null then clock_timestamp() + interval '1 s'
      -- Being claimed at this moment, or so it seems.
      else clock_timestamp() + interval '100 ms' end
  from found f
  where d.task_id = f.task_id and f.task_id not in (select task_id from ended) and (f.is_ready or f.is_waiting or f.session_id is not null)
)
select task_id, run_id, null::bigint as session_id, failure from ended
union all
select task_id, null, session_id, null from found
where started_at is null and granted_at < clock_timestamp() - interval '${UNSTARTED_MS} ms'`;

export interface StartSweep {
  /** How many rows were looked at and changed here; below the limit, nothing more is due. */
  ended: (Ended & { failure: Failure })[];
  /** Leases whose task should have been started; who holds them is asked to hand them back. */
  unstarted: { taskId: string; sessionId: string }[];
}

export async function sweepStartDeadlines(sql: Sql, limit: number): Promise<StartSweep> {
  const rows = await sql.unsafe(SWEEP_START_DEADLINES, [limit], { prepare: true });
  return {
    ended: rows
      .filter((r) => r.session_id === null)
      .map((r) => ({
        taskId: r.task_id as string,
        runId: r.run_id as string | null,
        failure: r.failure as Failure,
      })),
    unstarted: rows
      .filter((r) => r.session_id !== null)
      .map((r) => ({ taskId: r.task_id as string, sessionId: r.session_id as string })),
  };
}

/** Time until the next schedule-to-start time is over, ms; null when none is set. */
export async function nextStartDeadlineMs(sql: Sql): Promise<number | null> {
  const [row] = await sql.unsafe(
    `/* baton next start deadline */
     select (extract(epoch from min(expires_at) - clock_timestamp()) * 1000)::double precision as ms from baton.start_deadlines`,
    [],
    { prepare: true },
  );
  return row!.ms === null ? null : Math.max(0, row!.ms as number);
}

/**
 * What the next two look at is how things stood when the worker last said that it lives: silence of a worker is for the lease's own
 * time to end, and neither an outage nor a broken line makes its work late. After an outage of master or database nothing
 * is overdue for the grace: what was finished meanwhile is being handed in.
 */
const SAID_SINCE = `(select resumed_at from baton.sweeps where name = 'sessions') < (select clock_timestamp()) - $1::double precision * interval '1 ms'`;

/** Leases whose work began and went on for longer than start-to-close plus the grace in which the worker should have said so. */
export const OVERDUE = `/* baton overdue */
select l.task_id, l.epoch, l.session_id, l.start_to_close_ms
from baton.leases l cross join lateral (select s.renewed_at from baton.sessions s where s.id = l.session_id limit 1) s
where l.started_at is not null and l.started_at + (l.start_to_close_ms + $1::double precision) * interval '1 ms' < s.renewed_at and ${SAID_SINCE}
order by l.task_id limit 1000`;

export async function overdueLeases(
  sql: Sql,
  graceMs: number,
): Promise<{ taskId: string; epoch: number; sessionId: string; startToCloseMs: number }[]> {
  const rows = await sql.unsafe(OVERDUE, [graceMs], { prepare: true });
  return rows.map((r) => ({ ...leaseOf(r), startToCloseMs: Number(r.start_to_close_ms) }));
}

/** Leases whose task has given no sign for longer than its progress timeout plus the grace in which the worker should have ended it. */
export const SILENT = `/* baton silent */
select l.task_id, l.epoch, l.session_id, p.timeout_ms
from baton.progress p cross join lateral (
  select l.task_id, l.epoch, l.session_id from baton.leases l where l.task_id = p.task_id and l.epoch = p.epoch limit 1
) l cross join lateral (select s.renewed_at from baton.sessions s where s.id = l.session_id limit 1) s
where p.timeout_ms is not null and p.sign_at + (p.timeout_ms + $1::double precision) * interval '1 ms' < s.renewed_at and ${SAID_SINCE}
order by l.task_id limit 1000`;

export async function silentLeases(
  sql: Sql,
  graceMs: number,
): Promise<{ taskId: string; epoch: number; sessionId: string; timeoutMs: number }[]> {
  const rows = await sql.unsafe(SILENT, [graceMs], { prepare: true });
  return rows.map((r) => ({ ...leaseOf(r), timeoutMs: Number(r.timeout_ms) }));
}

function leaseOf(row: Record<string, unknown>): { taskId: string; epoch: number; sessionId: string } {
  return { taskId: row.task_id as string, epoch: row.epoch as number, sessionId: row.session_id as string };
}
