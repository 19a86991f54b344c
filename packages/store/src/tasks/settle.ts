import type { AttemptCounts, Budget, Failure, RetryPolicy } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { jsons, numbers, texts } from '../database/literals.ts';
import { FREE_DEVICES } from '../workers/device-leases.ts';
import type { Ended } from './complete.ts';

/** A lease that is about to end without success, as far as the decision needs it. */
export interface HeldAttempt extends AttemptCounts {
  taskId: string;
  epoch: number;
  sessionId: string;
  maxAttempts: number;
  /** Attempts that were lost with their workers, and that progress has made forgotten: no failures of the task's own. */
  forgiven?: number;
  /** The task's own policy, where it is not the default. */
  retry: Partial<RetryPolicy> | null;
  cancelReason: string | null;
  laneId: number;
}

/** Reads the leases that a worker's reports are about; those not held are missing from the answer. */
export async function readHeld(
  sql: Sql,
  reports: readonly { taskId: string; epoch: number; sessionId: string }[],
): Promise<Map<string, HeldAttempt>> {
  const rows = await sql.unsafe(
    `/* baton read held */ select l.task_id, l.epoch, l.session_id, l.attempt, l.crashes, l.infra, l.ooms, l.max_attempts, l.lane_id, l.cancel_reason, t.retry,
       t.max_attempts as own_attempts
     from unnest($1::bigint[], $2::integer[], $3::bigint[]) i(task_id, epoch, session_id) cross join lateral (
       select * from baton.leases l where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id limit 1
     ) l join baton.tasks t on t.id = l.task_id`,
    [
      numbers(reports.map((r) => r.taskId)),
      numbers(reports.map((r) => r.epoch)),
      numbers(reports.map((r) => r.sessionId)),
    ],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => [
      r.task_id as string,
      {
        taskId: r.task_id as string,
        epoch: r.epoch as number,
        sessionId: r.session_id as string,
        attempt: r.attempt as number,
        crashes: r.crashes as number,
        infra: r.infra as number,
        ooms: r.ooms as number,
        laneId: r.lane_id as number,
        maxAttempts: r.own_attempts as number,
        forgiven: (r.max_attempts as number) - (r.own_attempts as number),
        retry: r.retry as Partial<RetryPolicy> | null,
        cancelReason: r.cancel_reason as string | null,
      },
    ]),
  );
}

/** How a lease ends when it does not end with success, and what follows. */
export interface Settlement {
  taskId: string;
  epoch: number;
  sessionId: string;
  /** What is written of the attempt. */
  attempt: 'failed' | 'cancelled' | 'lost' | 'returned';
  /** Where the task goes. */
  next: 'backoff' | 'ready' | 'failed' | 'cancelled';
  /** With backoff. */
  delayMs: number | null;
  /** What the attempt is charged to; see domain. */
  budget: Budget;
  /** The lane in which it goes on, where that is another: a retry that needs a bigger machine. */
  laneId?: number | null;
  failure: Failure | null;
  ranUs: number;
}

/**
 * Ends a batch of leases without success, fenced, sorted and looked up like COMPLETE. A task whose cancel was asked for, and acknowledged,
 * ends cancelled instead of going on, whatever was decided before the cancel was seen. `returned` gives the attempt's number back: it cost nothing.
 * The input is read from `tasks` when the task is claimed again.
 */
export const SETTLE = `/* baton settle */
with input as materialized (
  select distinct on (task_id, epoch, session_id) *
  from unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::double precision[], $7::text[], $8::text[], $9::double precision[],
              $10::integer[])
    as i(task_id, epoch, session_id, attempt_state, next, delay_ms, budget, failure, ran_us, other_lane)
  order by task_id, epoch, session_id
), held as materialized (
  select l.*, case when cancelled then 'cancelled' else i.next end as next, case when not cancelled then i.delay_ms end as delay_ms,
         i.attempt_state, i.budget, i.failure::jsonb as failure, i.ran_us, i.other_lane from input i cross join lateral (
    select * from baton.leases l
    where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id limit 1 for update
  ) l cross join lateral (select l.cancel_reason is not null and i.next in ('ready', 'backoff') as cancelled) c
), done as (
  delete from baton.leases where task_id = any(array(select task_id from held))
), ${FREE_DEVICES}, ended as materialized (
  select d.*, a.namespace_id, a.route_id, s.worker_id, clock_timestamp() as at,
    case when d.attempt_state = 'returned' then d.attempt - 1 else d.attempt end as used,
    d.crashes + (d.budget = 'crash')::integer as crashed, d.infra + (d.budget = 'infra')::integer as infra_used,
    d.ooms + (d.budget = 'memory')::integer as ooms_used, coalesce(d.other_lane, d.lane_id) as next_lane
  from held d join baton.lanes a on a.id = d.lane_id join baton.sessions s on s.id = d.session_id
), kept_attempt as (
  insert into baton.attempts (task_id, session_id, granted_at, started_at, ended_at, retry_delay_ms, epoch, worker_id, attempt, state, failure)
  select task_id, session_id, granted_at,
         -- A master that ends it in the worker's place does not know how long it ran, but may have been told when it began.
         case when attempt_state in ('failed', 'cancelled') and (ran_us > 0 or started_at is null)
           then greatest(granted_at, at - ran_us * interval '1 microsecond') else started_at end,
         at, delay_ms::bigint, epoch, worker_id, attempt, attempt_state, failure
  from ended
), kept_outcome as (
  insert into baton.outcomes (task_id, run_id, ended_at, namespace_id, route_id, worker_id, epoch, attempt, state, failure, cancel_reason)
  select task_id, run_id, at, namespace_id, route_id, worker_id, epoch, attempt, next, failure, cancel_reason
  from ended where next in ('failed', 'cancelled')
), to_waiting as (
  insert into baton.waiting (task_id, due_at, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes,
                             infra, ooms, input_encoding, reason)
  select task_id, at + delay_ms * interval '1 ms', run_id, start_to_close_ms, next_lane, epoch, priority, used, max_attempts, crashed,
         infra_used, ooms_used, input_encoding, 'backoff'
  from ended where next = 'backoff'
), to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes,
                           infra, ooms, input_encoding)
  select task_id, position, run_id, start_to_close_ms, next_lane, epoch, priority, used, max_attempts, crashed,
         infra_used, ooms_used, input_encoding
  from ended where next = 'ready'
), new_deadline as (
  update baton.start_deadlines d
  set expires_at = e.at + (coalesce(e.delay_ms, 0) + d.timeout_ms) * interval '1 ms'
  from ended e where d.task_id = e.task_id and e.next in ('backoff', 'ready')
    -- What was handed back before it began has not been an attempt: its time goes on.
    and not (e.attempt_state = 'returned' and e.started_at is null and e.ran_us = 0)
), advanced as (
  insert into baton.advances (run_id, task_id) select run_id, task_id from ended where run_id is not null and next in ('failed', 'cancelled')
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id),
         array_agg((case next when 'failed' then 6 when 'cancelled' then 7 when 'backoff' then 4 else 8 end)::smallint),
         array_agg(task_id), array_agg(coalesce(run_id, 0)), array_agg(attempt), array_agg(worker_id)
  from ended having count(*) > 0
)
select task_id, run_id, next_lane as lane_id, next from ended`;

export interface Settled extends Ended {
  laneId: number;
  next: Settlement['next'];
}

/** @returns the tasks whose lease was held and is ended now */
export async function settleTasks(sql: Sql, batch: readonly Settlement[]): Promise<Settled[]> {
  const rows = await sql.unsafe(
    SETTLE,
    [
      numbers(batch.map((s) => s.taskId)),
      numbers(batch.map((s) => s.epoch)),
      numbers(batch.map((s) => s.sessionId)),
      texts(batch.map((s) => s.attempt)),
      texts(batch.map((s) => s.next)),
      numbers(batch.map((s) => s.delayMs)),
      texts(batch.map((s) => s.budget)),
      jsons(batch.map((s) => s.failure)),
      numbers(batch.map((s) => s.ranUs)),
      numbers(batch.map((s) => s.laneId ?? null)),
    ],
    { prepare: true },
  );
  return rows.map((r) => ({
    taskId: r.task_id as string,
    runId: r.run_id as string | null,
    laneId: r.lane_id as number,
    next: r.next as Settlement['next'],
  }));
}

/** The leases of sessions that are over, for the sweep to settle. */
export async function leasesOf(sql: Sql, sessionIds: readonly string[], limit: number): Promise<HeldAttempt[]> {
  const rows = await sql.unsafe(
    `/* baton leases of */
     with held as materialized (select l.* from unnest($1::bigint[]) s(id) join baton.leases l on l.session_id = s.id)
     select task_id, epoch, session_id, attempt, crashes, infra, ooms, max_attempts, lane_id, cancel_reason from held order by task_id limit $2`,
    [numbers(sessionIds), limit],
    { prepare: true },
  );
  return rows.map((r) => ({
    taskId: r.task_id as string,
    epoch: r.epoch as number,
    sessionId: r.session_id as string,
    attempt: r.attempt as number,
    crashes: r.crashes as number,
    infra: r.infra as number,
    ooms: r.ooms as number,
    laneId: r.lane_id as number,
    maxAttempts: r.max_attempts as number,
    retry: null,
    cancelReason: r.cancel_reason as string | null,
  }));
}
