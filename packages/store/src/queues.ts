import type { Sql } from './connection.ts';

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

/** A queue with what is in it, each count exact up to `QUEUE_COUNT_CAP`. */
export interface QueueRow {
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
  select q.name, q.paused from baton.queues q where q.namespace_id = $1 and q.name > $2 order by q.name limit $3
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
select p.name, p.paused, baton.id_time(o.position) as oldest_ready,
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
    ready: r.ready as number,
    waiting: r.waiting as number,
    leased: r.leased as number,
    oldestReady: r.oldest_ready as Date | null,
  }));
}
