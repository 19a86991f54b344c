import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import type { Ended } from './complete.ts';

export interface CancelResult extends Ended {
  /** `cancelled`: over. `leased`: the worker was asked. */
  now: 'cancelled' | 'leased';
  /** Of the lease. */
  sessionId: string | null;
  epoch: number | null;
}

/**
 * Ends tasks that wait, and asks the workers of leased ones to stop; one statement, so that a grant comes wholly before it (then
 * the lease is found by the next call of the retry in the engine) or not at all. Tasks that have ended are missing in the answer.
 * Who asks again is told the same, and it is no second event.
 */
export const CANCEL = `/* baton cancel */
with input as materialized (
  select t.id, t.run_id, t.namespace_id, t.route_id from unnest($1::bigint[]) i(id) join baton.tasks t on t.id = i.id order by t.id
), ids as materialized (
  select array_agg(id order by id) as ids from input
), from_ready as (
  delete from baton.ready where task_id = any((select ids from ids)::bigint[]) returning task_id, epoch, attempt
), from_waiting as (
  delete from baton.waiting where task_id = any((select ids from ids)::bigint[]) returning task_id, epoch, attempt
), asked as (
  update baton.leases l set cancel_reason = coalesce(l.cancel_reason, $2) where task_id = any((select ids from ids)::bigint[])
  returning l.task_id, l.session_id, l.attempt, l.epoch
), noted as (
  insert into baton.cancel_requests (task_id, at, epoch, reason)
  select task_id, clock_timestamp(), epoch, $2 from asked on conflict do nothing
  returning task_id
), ended as materialized (
  select e.*, i.run_id, i.namespace_id, i.route_id, clock_timestamp() as at
  from (select * from from_ready union all select * from from_waiting) e join input i on i.id = e.task_id
), kept as (
  insert into baton.outcomes (task_id, run_id, ended_at, namespace_id, route_id, epoch, attempt, state, cancel_reason)
  select task_id, run_id, at, namespace_id, route_id, epoch, attempt, 'cancelled', $2 from ended
), advanced as (
  insert into baton.advances (run_id, task_id) select run_id, task_id from ended where run_id is not null
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(type), array_agg(task_id), array_agg(coalesce(run_id, 0)), array_agg(attempt), array_agg(0)
  from (select namespace_id, 7::smallint as type, task_id, run_id, attempt from ended
        union all
        select i.namespace_id, 15::smallint, a.task_id, i.run_id, a.attempt
        from noted n join asked a on a.task_id = n.task_id join input i on i.id = n.task_id) e
  having count(*) > 0
)
select task_id, run_id, 'cancelled' as now, null::bigint as session_id, null::integer as epoch from ended
union all
select task_id, null, 'leased', session_id, epoch from asked`;

export async function cancelTasks(
  sql: Sql,
  taskIds: readonly string[],
  reason: string,
): Promise<Map<string, CancelResult>> {
  const rows = await sql.unsafe(CANCEL, [numbers(taskIds), reason], { prepare: true });
  return new Map(
    rows.map((r) => [
      r.task_id as string,
      {
        taskId: r.task_id as string,
        runId: r.run_id as string | null,
        now: r.now as CancelResult['now'],
        sessionId: r.session_id as string | null,
        epoch: r.epoch as number | null,
      },
    ]),
  );
}
