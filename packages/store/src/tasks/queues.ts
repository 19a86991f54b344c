import type { Placement, Strategy } from '@baton/domain';
import type { Sql } from '../database/connection.ts';

/**
 * Pauses a queue, or lets it go on. When it returns nothing more is granted from the queue by any master: grants under way are waited
 * for, and lanes that are being made come before it or are paused from their beginning.
 *
 * Pausing makes a queue that nobody has used yet. The function is of one transaction, with a snapshot for each of its steps.
 *
 * @returns whether it was paused before; null: there is no such queue to let go on
 */
export async function setQueuePaused(
  sql: Sql,
  namespaceId: number,
  queue: string,
  paused: boolean,
): Promise<boolean | null> {
  const [row] = await sql.unsafe(
    '/* baton set queue paused */ select baton.set_queue_paused($1, $2, $3) as was',
    [namespaceId, queue, paused],
    { prepare: true },
  );
  return row!.was as boolean | null;
}

/** How a queue's work is given out; null: as each master's own setting says. */
export interface QueuePlanning {
  strategy: Strategy | null;
  placement: Placement | null;
}

export interface KnownPlanning extends QueuePlanning {
  namespaceId: number;
  name: string;
}

export const PLANNED_QUEUES = `select namespace_id, name, strategy, placement from baton.queues where strategy is not null or placement is not null`;

/** Queues that are planned otherwise than their masters' settings say. */
export async function listQueuePlannings(sql: Sql): Promise<KnownPlanning[]> {
  const rows = await sql.unsafe(`/* baton list queue plannings */ ${PLANNED_QUEUES}`, [], { prepare: true });
  return rows.map(toPlanning);
}

export function toPlanning(r: Record<string, unknown>): KnownPlanning {
  return {
    namespaceId: r.namespace_id as number,
    name: r.name as string,
    strategy: r.strategy as Strategy | null,
    placement: r.placement as Placement | null,
  };
}

/** Sets what is given, leaves what is undefined; makes a queue that nobody has used yet. Returns how it stands then. */
export async function setQueuePlanning(
  sql: Sql,
  namespaceId: number,
  queue: string,
  change: { [Field in keyof QueuePlanning]?: QueuePlanning[Field] | undefined },
): Promise<QueuePlanning> {
  const [row] = await sql.unsafe(
    `/* baton set queue planning */
     insert into baton.queues as q (namespace_id, name, strategy, placement) values ($1, $2, $3, $5)
     on conflict (namespace_id, name) do update
       set strategy = case when $4::boolean then excluded.strategy else q.strategy end,
           placement = case when $6::boolean then excluded.placement else q.placement end
     returning strategy, placement`,
    [
      namespaceId,
      queue,
      change.strategy ?? null,
      change.strategy !== undefined,
      change.placement ?? null,
      change.placement !== undefined,
    ],
    { prepare: true },
  );
  return { strategy: row!.strategy as Strategy | null, placement: row!.placement as Placement | null };
}

/** A queue with what is in it, each count exact up to `QUEUE_COUNT_CAP`. */
export interface QueueRow extends QueuePlanning {
  name: string;
  paused: boolean;
  ready: number;
  waiting: number;
  leased: number;
  /** Since when the task that may be leased for the longest time waits; null: none is ready. */
  oldestReady: Date | null;
}

export const QUEUE_COUNT_CAP = 10_000;

/** So many rows of `waiting` and `leases` are looked at, the oldest tasks first: they have no index by lane. */
const SCAN_CAP = 1_000_000;

/**
 * Queues by name, a keyset page. `ready` is counted lane by lane along its index. Its oldest task is found by hopping from priority to
 * priority: a lane has few. Ten queues over a million tasks: 75 ms.
 */
export const LIST_QUEUES = `/* baton list queues */
with recursive page as materialized (
  select q.name, q.paused, q.strategy, q.placement from baton.queues q where q.namespace_id = $1 and q.name > $2 order by q.name limit $3
), lanes as materialized (
  select l.id, p.name from page p join baton.routes r on r.namespace_id = $1 and r.queue = p.name join baton.lanes l on l.route_id = r.id
), waiting as materialized (
  select l.name, count(*) as count from (select w.lane_id from baton.waiting w order by w.task_id limit ${SCAN_CAP}) w
  join lanes l on l.id = w.lane_id group by l.name
), leased as materialized (
  select l.name, count(*) as count from (select w.lane_id from baton.leases w order by w.task_id limit ${SCAN_CAP}) w
  join lanes l on l.id = w.lane_id group by l.name
), levels as (
  select l.id, l.name, (select y.priority from baton.ready y where y.lane_id = l.id order by y.priority desc limit 1) as priority from lanes l
  union all
  select v.id, v.name, (select y.priority from baton.ready y where y.lane_id = v.id and y.priority < v.priority order by y.priority desc limit 1)
  from levels v where v.priority is not null
), oldest as materialized (
  select v.name, min((select y.position from baton.ready y where y.lane_id = v.id and y.priority = v.priority order by y.position limit 1)) as position
  from levels v where v.priority is not null group by v.name
)
select p.name, p.paused, p.strategy, p.placement, baton.id_time(o.position) as oldest_ready,
       least(${QUEUE_COUNT_CAP}, coalesce(w.count, 0))::integer as waiting, least(${QUEUE_COUNT_CAP}, coalesce(h.count, 0))::integer as leased,
       (select count(*)::integer from (
          select from lanes l cross join lateral (select from baton.ready y where y.lane_id = l.id limit ${QUEUE_COUNT_CAP}) y
          where l.name = p.name limit ${QUEUE_COUNT_CAP}) x) as ready
from page p left join waiting w on w.name = p.name left join leased h on h.name = p.name left join oldest o on o.name = p.name
order by p.name`;

export async function listQueues(
  sql: Sql,
  page: { namespaceId: number; afterName: string; limit: number },
): Promise<QueueRow[]> {
  const rows = await sql.unsafe(LIST_QUEUES, [page.namespaceId, page.afterName, page.limit], { prepare: true });
  return rows.map((r) => ({
    name: r.name as string,
    paused: r.paused as boolean,
    strategy: r.strategy as Strategy | null,
    placement: r.placement as Placement | null,
    ready: r.ready as number,
    waiting: r.waiting as number,
    leased: r.leased as number,
    oldestReady: r.oldest_ready as Date | null,
  }));
}
