import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import { MACHINE_MADE_ATTEMPT } from '../workers/breakers.ts';
import { LANE_COLUMNS, type Lane, RECENT_LANES, toLane } from './lanes.ts';
import { type KnownPlanning, PLANNED_QUEUES, toPlanning } from './queues.ts';

/** Whether there is anything to do for a master, and when; each duty has statements of its own. */
export interface Sight {
  /** Of the lanes asked for, those in which something is ready. */
  readyLanes: number[];
  /** Until the next task is due that waits for a time, ms; null: none does. 0 or less: now. */
  dueMs: number | null;
  /** Until the next task's time to be started is over, ms; null: none has one. */
  startMs: number | null;
  /** Somebody holds a lease. */
  leases: boolean;
  /** Signs of tasks are kept. */
  progress: boolean;
  /** Devices are held. */
  devices: boolean;
  /** Runs have something to do. */
  advances: boolean;
  /** A breaker is not closed, or a worker has had a machine-made failure of late. */
  breakers: boolean;
  /** Sessions to which there is something to say, some of them. */
  ordered: string[];
  /** Masters that live. */
  masters: number;
  /** Those above the id that was given, those that are new, and all that are paused. */
  lanes: Lane[];
  /** Of queues that are planned otherwise than their masters' settings say. */
  plannings: KnownPlanning[];
}

/** Sessions with orders that one look names. */
const ORDERED = 1_000;

/**
 * All that a master asks each second, or every few seconds while nothing is there, in one statement that reads ends of indexes: 0.15 ms,
 * where it was eleven statements and as many round trips. It writes nothing.
 */
export const LOOK = `/* baton look */
select
  array_to_json(array(
    select w.id from unnest($1::integer[]) w(id) cross join lateral (select from baton.ready y where y.lane_id = w.id limit 1) y
  )) as ready_lanes,
  (select (extract(epoch from min(due_at) - clock_timestamp()) * 1000)::double precision from baton.waiting where due_at is not null) as due_ms,
  (select (extract(epoch from min(expires_at) - clock_timestamp()) * 1000)::double precision from baton.start_deadlines) as start_ms,
  exists (select from baton.leases) as leases,
  exists (select from baton.progress) as progress,
  exists (select from baton.device_leases) as devices,
  exists (select from baton.advances) as advances,
  exists (select from baton.breakers where state <> 'closed')
    or exists (select from baton.attempts a where a.ended_at > (select clock_timestamp() - $3::double precision * interval '1 ms') and ${MACHINE_MADE_ATTEMPT}) as breakers,
  (select coalesce(json_agg(o.id::text), '[]') from (
    (select distinct l.session_id as id from baton.leases l where l.cancel_reason is not null limit ${ORDERED})
    union
    (select s.id from baton.sessions s where s.state <> 'closed' and (s.state = 'draining' or s.shutdown or s.recall > 0) limit ${ORDERED})
  ) o) as ordered,
  (select count(*)::integer from baton.masters where expires_at > clock_timestamp()) as masters,
  (select coalesce(json_agg(n), '[]') from (
    select ${LANE_COLUMNS} from baton.lanes l join baton.routes r on r.id = l.route_id where ${RECENT_LANES('$2')} order by l.id
  ) n) as lanes,
  (select coalesce(json_agg(q), '[]') from (${PLANNED_QUEUES}) q) as plannings`;

/**
 * @param laneIds lanes that may have something ready
 * @param afterLane lanes above this id are not known
 * @param failuresMs machine-made failures that are not older are of late
 */
export async function lookAround(
  sql: Sql,
  laneIds: readonly number[],
  afterLane: number,
  failuresMs: number,
): Promise<Sight> {
  const [row] = await sql.unsafe(LOOK, [numbers(laneIds), afterLane, failuresMs], { prepare: true });
  return {
    readyLanes: row!.ready_lanes as number[],
    dueMs: row!.due_ms as number | null,
    startMs: row!.start_ms as number | null,
    leases: row!.leases as boolean,
    progress: row!.progress as boolean,
    devices: row!.devices as boolean,
    advances: row!.advances as boolean,
    breakers: row!.breakers as boolean,
    ordered: row!.ordered as string[],
    masters: row!.masters as number,
    lanes: (row!.lanes as Record<string, unknown>[]).map(toLane),
    plannings: (row!.plannings as Record<string, unknown>[]).map(toPlanning),
  };
}
