import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import type { Ended } from '../tasks/complete.ts';
import { FREE_DEVICES } from '../workers/device-leases.ts';

/** A durable function that has nothing left to do but wait. */
export interface Suspension {
  taskId: string;
  epoch: number;
  sessionId: string;
  /** As of what the worker knows of its journal. */
  wakes: string;
  /** When the first of its waits ends by itself, wall clock, ms. */
  dueAtMs: number | null;
  ranUs: number;
}

/**
 * Ends the leases of functions that wait, fenced like COMPLETE: the task goes to waiting, and its run waits. Where something has happened
 * to the run that the worker did not know of, it goes back to ready at once instead.
 *
 * No wake-up is lost: whoever wakes a run locks its row first, to count the wake, and looks for the waiting task in a statement after. Either
 * this statement gets the row first, then the waker finds the task waiting; or it gets it after, then it reads the newest count.
 */
export const SUSPEND = `/* baton suspend */
with input as materialized (
  select distinct on (task_id, epoch, session_id) *
  from unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::double precision[], $6::double precision[])
    as i(task_id, epoch, session_id, wakes, due_ms, ran_us)
  order by task_id, epoch, session_id
), held as materialized (
  select l.*, i.wakes, to_timestamp(i.due_ms / 1000) as due_at, i.ran_us from input i cross join lateral (
    select * from baton.leases l
    where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id and l.run_id is not null limit 1 for update
  ) l
), run as materialized (
  select u.id, u.wakes from baton.runs u where u.id = any(array(select run_id from held)) order by u.id for update
), done as (
  delete from baton.leases where task_id = any(array(select task_id from held))
), ${FREE_DEVICES}, ended as materialized (
  select h.*, a.namespace_id, a.route_id, s.worker_id, clock_timestamp() as at,
         case when h.cancel_reason is not null then 'cancelled' when run.wakes > h.wakes or h.due_at <= clock_timestamp() then 'ready' else 'waiting' end as next
  from held h join run on run.id = h.run_id join baton.lanes a on a.id = h.lane_id join baton.sessions s on s.id = h.session_id
), kept_attempt as (
  insert into baton.attempts (task_id, session_id, granted_at, started_at, ended_at, epoch, worker_id, attempt, state)
  select task_id, session_id, granted_at, greatest(granted_at, at - ran_us * interval '1 microsecond'), at, epoch, worker_id, attempt,
         case next when 'cancelled' then 'cancelled' else 'returned' end
  from ended
), kept_outcome as (
  insert into baton.outcomes (task_id, run_id, ended_at, namespace_id, route_id, worker_id, epoch, attempt, state, cancel_reason)
  select task_id, run_id, at, namespace_id, route_id, worker_id, epoch, attempt, 'cancelled', cancel_reason from ended where next = 'cancelled'
), advanced as (
  insert into baton.advances (run_id, task_id) select run_id, task_id from ended where next = 'cancelled'
), to_waiting as (
  insert into baton.waiting (task_id, due_at, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, input_encoding, reason)
  select task_id, due_at, run_id, start_to_close_ms, lane_id, epoch, priority, attempt - 1, max_attempts, input_encoding,
         case when due_at is null then 'blocked' else 'scheduled' end
  from ended where next = 'waiting'
), to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, input_encoding)
  select task_id, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt - 1, max_attempts, input_encoding
  from ended where next = 'ready'
), resting as (
  update baton.runs u set state = 'waiting', revision = u.revision + 1,
    waiting_for = array(select concat(j.kind, ' ' || nullif(j.name, 'sleep')) from baton.journal j where j.run_id = u.id and j.position is null order by j.number limit 20)
  from ended e where u.id = e.run_id and e.next = 'waiting' and u.state = 'running'
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg((case next when 'cancelled' then 7 else 8 end)::smallint), array_agg(task_id), array_agg(run_id),
         array_agg(attempt), array_agg(worker_id)
  from ended having count(*) > 0
)
select task_id, run_id, lane_id, next from ended`;

export interface Suspended extends Ended {
  laneId: number;
  next: 'waiting' | 'ready' | 'cancelled';
}

/** @returns the tasks whose lease was held and is ended now */
export async function suspendTasks(sql: Sql, batch: readonly Suspension[]): Promise<Suspended[]> {
  const rows = await sql.unsafe(
    SUSPEND,
    [
      numbers(batch.map((s) => s.taskId)),
      numbers(batch.map((s) => s.epoch)),
      numbers(batch.map((s) => s.sessionId)),
      numbers(batch.map((s) => s.wakes)),
      numbers(batch.map((s) => s.dueAtMs)),
      numbers(batch.map((s) => s.ranUs)),
    ],
    { prepare: true },
  );
  return rows.map((r) => ({
    taskId: r.task_id as string,
    runId: r.run_id as string | null,
    laneId: r.lane_id as number,
    next: r.next as Suspended['next'],
  }));
}

/**
 * Counts a wake of each of these runs: something has happened that could end a wait. To be followed by `wakeDrivers` in a statement of
 * its own, which must see what was committed before this one got the runs' rows. In the order of their ids.
 */
export async function countWakes(sql: Sql, runIds: readonly string[]): Promise<void> {
  await sql.unsafe(
    `/* baton count wakes */
     with run as materialized (select id from baton.runs where id = any($1::bigint[]) order by id for update)
     update baton.runs u set wakes = u.wakes + 1 from run where u.id = run.id`,
    [numbers(runIds)],
    { prepare: true },
  );
}

/** Makes the waiting tasks of these runs ready, and forgets the advances that asked for it. @returns the lanes that have something now */
export async function wakeDrivers(
  sql: Sql,
  runIds: readonly string[],
  advanceIds: readonly string[],
): Promise<{ laneIds: number[] }> {
  const rows = await sql.unsafe(
    `/* baton wake drivers */
     with driver as materialized (
       select u.driver_task_id as task_id from unnest($1::bigint[]) i(id) join baton.runs u on u.id = i.id where u.state in ('running', 'waiting')
     ), moved as (
       delete from baton.waiting w using driver d where w.task_id = d.task_id and w.reason <> 'backoff' returning w.*
     ), to_ready as (
       insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, infra, ooms, input_encoding)
       select task_id, task_id, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, infra, ooms, input_encoding from moved
     ), answered as (
       delete from baton.advances where id = any($2::bigint[])
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array_agg(l.namespace_id), array_agg(2::smallint), array_agg(m.task_id), array_agg(m.run_id), array_agg(m.attempt), array_agg(0)
       from moved m join baton.lanes l on l.id = m.lane_id having count(*) > 0
     )
     select distinct lane_id from moved`,
    [numbers(runIds), numbers(advanceIds)],
    { prepare: true },
  );
  return { laneIds: rows.map((r) => r.lane_id as number) };
}

/**
 * Function runs that sleep although something has happened to them, or whose driver has ended: their advance was lost. Masters of the
 * version before take advances of waiting runs for those of ended ones. Some of them; the oldest first.
 */
export async function readSleepers(sql: Sql, limit: number): Promise<string[]> {
  const rows = await sql.unsafe(
    `/* baton read sleepers */ select u.id from baton.runs u
     where u.state = 'waiting' and u.form = 'function' and not exists (select from baton.advances a where a.run_id = u.id) and (
       exists (select from baton.outcomes o where o.task_id = u.driver_task_id)
       or (exists (select from baton.waiting w where w.task_id = u.driver_task_id) and exists (
         select from baton.journal j where j.run_id = u.id and j.position is null and (
           (j.kind = 'task' and exists (select from baton.outcomes o where o.task_id = j.ref_id))
           or (j.kind = 'child' and exists (select from baton.runs c where c.id = j.ref_id and c.state in ('succeeded', 'failed', 'cancelled')))
           or (j.kind = 'signal' and exists (select from baton.run_signals s where s.run_id = u.id and s.name = j.name and s.taken_by is null))))))
     order by u.id limit $1`,
    [limit],
    { prepare: true },
  );
  return rows.map((r) => r.id as string);
}
