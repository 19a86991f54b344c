import { base64 } from '../database/literals.ts';
import { LANE_GUARD, SESSION_GUARD } from './hand-over.ts';
import { INLINE_INPUT_BYTES, type NewTask } from './new-task.ts';

/** Whether it has nothing that most tasks do not have: no key, no time to wait for, no deadline, no run. */
export const isBare = ({ dueAtMs, idempotency, extra }: NewTask): boolean =>
  dueAtMs === null && idempotency === null && extra === null;

/**
 * Stores one such task: what `SUBMIT` does, without what is there for batches. An insert of one row into an empty table takes an idle Postgres
 * 0.93 ms, most of it for the commit and the way; this 1.2 ms, and the statement of batches 1.5 (1.3 without a hand-over).
 *
 * Handing: to the session $10, with the guards of `handOver`; the lane is locked before the session.
 */
const loneStatement = (handing: boolean) => `/* baton ${handing ? 'submit one handing' : 'submit one'} */
with stored as (
  insert into baton.tasks (id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input)
  values ($1::bigint, $7::bigint, $2::integer, $3::integer, $4::integer, $5::smallint, $6::smallint, $8::smallint, decode($9::text, 'base64'))
  returning case when octet_length(input) <= ${INLINE_INPUT_BYTES} then input end as inline
), ${
  handing
    ? `granting as materialized (
  select l.id from baton.lanes l where l.id = $4::integer and ${LANE_GUARD} for share of l
), taker as materialized (
  select s.id, s.worker_id, s.expires_at from baton.sessions s
  where exists (select from granting) and s.id = $10::bigint and ${SESSION_GUARD} for share of s
), taking as materialized (
  select id, worker_id from taker where expires_at > clock_timestamp()
), leased as (
  insert into baton.leases (task_id, session_id, granted_at, position, start_to_close_ms, lane_id, epoch, priority, attempt,
                            max_attempts, crashes, infra, ooms, input_encoding, lane_namespace_id, lane_route_id, session_worker_id)
  select $1::bigint, id, clock_timestamp(), $1::bigint, $7::bigint, $4::integer, 1, $5::smallint, 1, $6::smallint, 0, 0, 0, $8::smallint,
         $2::integer, $3::integer, worker_id
  from taking
), `
    : ''
}to_ready as (
  insert into baton.ready (task_id, position, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
  select $1::bigint, $1::bigint, $7::bigint, $4::integer, $5::smallint, $6::smallint, $8::smallint, inline
  from stored${handing ? ' where not exists (select from taking)' : ''}
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  ${
    handing
      ? `select array_agg($2::integer), array_agg(type), array_agg($1::bigint), array_agg(0::bigint), array_agg(attempt), array_agg(worker_id)
  from (select 1::smallint as type, 0::smallint as attempt, 0 as worker_id union all select 3::smallint, 1::smallint, worker_id from taking) e`
      : 'select array[$2::integer], array[1::smallint], array[$1::bigint], array[0::bigint], array[0::smallint], array[0]'
  }
)
select ${handing ? '(select id from taking)' : 'null::bigint'} as session_id from stored`;

export const SUBMIT_ONE = loneStatement(false);
export const SUBMIT_ONE_HANDING = loneStatement(true);

/** In the order of the statements' parameters. @param taker the session that waits for it */
export const loneParameters = (task: NewTask, taker: string | null): (string | null)[] => [
  task.id,
  ...[
    task.namespaceId,
    task.routeId,
    task.laneId,
    task.priority,
    task.maxAttempts,
    task.startToCloseMs,
    task.encoding,
  ].map(String),
  task.input === null ? null : base64(task.input),
  ...(taker === null ? [] : [taker]),
];
