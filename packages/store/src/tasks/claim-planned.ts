import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';
import type { DeviceKey } from '../workers/device-leases.ts';
import { type Grant, toGrant } from './claim.ts';

/** A task that a plan gives to a session, with the devices that it is to have. */
export interface PlannedClaim {
  taskId: string;
  sessionId: string;
  devices: readonly ClaimedDevice[];
}

export interface ClaimedDevice extends DeviceKey {
  /** Another lease of the same worker may have it: then this one is its next, and waits there. Default false. */
  isNext?: boolean;
}

/**
 * Moves the tasks of a plan from ready to leases, each with its devices. What CLAIM guards is guarded here too: lanes that are paused,
 * sessions that are over, drain or are held back by their breakers. And: a task is granted with all of its devices or not at all, none of
 * which is leased or has an open breaker. A device that is claimed as the next one's may have one lease, of the same worker, which lets
 * nobody end it meanwhile: so the leases of a device are two at most, and both of one worker, which runs them one after the other.
 *
 * Two grants of one device at the same moment, by masters or statements that do not see each other, meet at the primary key of
 * device_leases: the later one fails as a whole, with 23505, and is planned again. Which of a plan's tasks were not granted is seen by
 * what comes back.
 *
 * With $4 it is a probe of a half-open breaker: see CLAIM_PROBE, whose guards it has then.
 */
export const CLAIM_PLANNED = `/* baton claim planned */
with input as materialized (
  select * from unnest($1::bigint[], $2::bigint[], $3::text[]) as i(task_id, session_id, devices) order by task_id
), probing as materialized (
  select b.worker_id from baton.sessions s join baton.breakers b on b.worker_id = s.worker_id and b.device = ''
  where $4::boolean and s.id = any($2::bigint[]) and b.state = 'half_open' and b.probe_task_id is null
  for update of b
), heads as materialized (
  select y.at, y.lane_id, i.* from input i cross join lateral (
    select y.ctid as at, y.lane_id from baton.ready y where y.task_id = i.task_id limit 1 for update skip locked
  ) y
), granting as materialized (
  select l.id from baton.lanes l where l.id = any(array(select lane_id from heads)) and not l.paused order by l.id for share of l
), takers as materialized (
  select s.id, s.namespace_id, s.worker_id, s.expires_at from baton.sessions s
  where s.id = any($2::bigint[]) and s.state = 'active' and s.expires_at > clock_timestamp()
    and case when $4::boolean then s.worker_id in (select worker_id from probing) else not s.held_back end
  order by s.id for share of s
), wanted as materialized (
  select h.task_id, s.worker_id, d.scope, d.uuid, coalesce(d.next, false) as next from heads h join takers s on s.id = h.session_id
  cross join lateral jsonb_to_recordset(h.devices::jsonb) as d(scope integer, uuid text, next boolean)
  where h.devices <> ''
), before as materialized (
  select w.task_id, x.place from wanted w cross join lateral (
    select d.place from baton.device_leases d
    where d.scope = w.scope and d.uuid = w.uuid and d.worker_id = w.worker_id limit 1 for key share skip locked
  ) x where w.next
), refused as materialized (
  select distinct w.task_id from wanted w
  where (select count(*) from baton.device_leases x where x.scope = w.scope and x.uuid = w.uuid)
      <> (select count(*) from before b where b.task_id = w.task_id)
    or exists (select from baton.breakers b where b.worker_id = w.worker_id and b.device = w.uuid and b.state = 'open')
), granted as (
  delete from baton.ready y
  using heads h join granting g on g.id = h.lane_id join takers s on s.id = h.session_id and s.expires_at > clock_timestamp()
  where y.ctid = h.at and h.task_id not in (select task_id from refused)
  returning y.*, s.id as session_id, s.namespace_id, s.worker_id, h.devices
), leased as (
  insert into baton.leases (task_id, session_id, granted_at, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt,
                            max_attempts, crashes, infra, ooms, input_encoding, has_devices)
  select task_id, session_id, clock_timestamp(), position, run_id, start_to_close_ms, lane_id, epoch + 1, priority, attempt + 1,
         max_attempts, crashes, infra, ooms, input_encoding, devices <> ''
  from granted
), given as (
  insert into baton.device_leases (scope, uuid, place, worker_id, task_id, epoch)
  select w.scope, w.uuid, coalesce(1 - b.place, 0), w.worker_id, g.task_id, g.epoch + 1
  from granted g join wanted w on w.task_id = g.task_id left join before b on b.task_id = g.task_id
  order by w.scope, w.uuid
), marked as (
  update baton.breakers b set probe_task_id = g.task_id, probe_epoch = g.epoch + 1
  from granted g where $4::boolean and b.worker_id = g.worker_id and b.device = ''
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(3::smallint), array_agg(task_id), array_agg(coalesce(run_id, 0)),
         array_agg((attempt + 1)::smallint), array_agg(worker_id)
  from granted having count(*) > 0
)
select session_id, task_id, lane_id, epoch + 1 as epoch, attempt + 1 as attempt, max_attempts, start_to_close_ms, run_id,
       input_encoding, input
from granted`;

const deviceRow = ({ scope, uuid, isNext }: ClaimedDevice) => ({ scope, uuid, ...(isNext && { next: true }) });

/**
 * @param isProbe one task, for the session of a worker whose breaker is half-open
 * @throws 23505 where another grant took one of the devices at this moment; then nothing is granted
 */
export async function claimPlanned(sql: Sql, claims: readonly PlannedClaim[], isProbe = false): Promise<Grant[]> {
  const rows = await sql.unsafe(
    CLAIM_PLANNED,
    [
      numbers(claims.map((c) => c.taskId)),
      numbers(claims.map((c) => c.sessionId)),
      texts(claims.map((c) => (c.devices.length > 0 ? JSON.stringify(c.devices.map(deviceRow)) : ''))),
      isProbe,
    ],
    { prepare: true },
  );
  return rows.map(toGrant);
}
