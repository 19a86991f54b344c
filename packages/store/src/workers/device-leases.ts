import type { Needs } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';

/** A device of a worker by what makes it one. `scope` 0: its UUID is unique in the world; else the worker's id. */
export interface DeviceKey {
  scope: number;
  uuid: string;
}

/**
 * What COMPLETE, SETTLE and SUSPEND do for leases that have devices, of `held` or `ended`: these go in the same statement. For all others it costs
 * one look at an empty list a batch.
 */
export const freeDevicesOf = (leases: 'held' | 'ended') => `freed as (
  delete from baton.device_leases where task_id = any(array(select task_id from ${leases} where has_devices))
)`;

export const FREE_DEVICES = freeDevicesOf('held');

export interface HeldDevice extends DeviceKey {
  workerId: number;
  taskId: string;
}

/** Which of these devices are leased, and by which tasks. */
export async function readHeldDevices(sql: Sql, devices: readonly DeviceKey[]): Promise<HeldDevice[]> {
  const rows = await sql.unsafe(
    `/* baton read held devices */
     select d.scope, d.uuid, d.worker_id, d.task_id
     from unnest($1::integer[], $2::text[]) i(scope, uuid) join baton.device_leases d on d.scope = i.scope and d.uuid = i.uuid`,
    [numbers(devices.map((d) => d.scope)), texts(devices.map((d) => d.uuid))],
    { prepare: true },
  );
  return rows.map((r) => ({
    scope: r.scope as number,
    uuid: r.uuid as string,
    workerId: r.worker_id as number,
    taskId: r.task_id as string,
  }));
}

/** How many leases of lanes with needs these sessions hold, by lane: what they take up is the lane's to say. */
export async function readLeasesWithNeeds(
  sql: Sql,
  sessionIds: readonly string[],
): Promise<{ sessionId: string; needs: Needs; count: number }[]> {
  const rows = await sql.unsafe(
    `/* baton read leases with needs */
     select l.session_id, n.needs, count(*)::integer as count
     from unnest($1::bigint[]) i(id) join baton.leases l on l.session_id = i.id
     join baton.lanes n on n.id = l.lane_id where n.needs is not null group by l.session_id, n.id`,
    [numbers(sessionIds)],
    { prepare: true },
  );
  return rows.map((r) => ({ sessionId: r.session_id as string, needs: r.needs as Needs, count: r.count as number }));
}

/**
 * Frees devices whose lease is gone: it was ended by a master of a version that knows no devices. A row and its lease are written by
 * one statement, so that none is without the other while a grant is under way. Returns how many.
 */
export async function freeOrphanDevices(sql: Sql): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton free orphan devices */ delete from baton.device_leases d
     where not exists (select from baton.leases l where l.task_id = d.task_id and l.epoch = d.epoch) returning 1`,
    [],
    { prepare: true },
  );
  return rows.length;
}
