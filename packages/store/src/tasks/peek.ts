import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';

/** A task at the head of its lane. */
export interface Head {
  taskId: string;
  laneId: number;
  priority: number;
  position: string;
}

/**
 * The first tasks of each lane, for a plan: by priority, then by age. Nothing is locked; what has gone meanwhile is not granted. Only
 * asked where a plan has to choose between tasks: plain work is claimed without it.
 */
export const PEEK = `/* baton peek */
select r.* from unnest($1::integer[]) w(lane_id)
join baton.lanes l on l.id = w.lane_id and not l.paused
cross join lateral (
  select y.task_id, y.lane_id, y.priority, y.position from baton.ready y
  where y.lane_id = l.id order by y.priority desc, y.position limit $2
) r`;

/** The same by age alone: each lane has few priorities, and is hopped through by them. */
export const PEEK_OLDEST = `/* baton peek oldest */
with recursive levels as (
  select l.id, (select y.priority from baton.ready y where y.lane_id = l.id order by y.priority desc limit 1) as priority
  from unnest($1::integer[]) w(lane_id) join baton.lanes l on l.id = w.lane_id and not l.paused
  union all
  select v.id, (select y.priority from baton.ready y where y.lane_id = v.id and y.priority < v.priority order by y.priority desc limit 1)
  from levels v where v.priority is not null
)
select r.* from levels v cross join lateral (
  select y.task_id, y.lane_id, y.priority, y.position from baton.ready y
  where y.lane_id = v.id and y.priority = v.priority order by y.position limit $2
) r where v.priority is not null`;

/** @param perLane tasks of each lane at most; by age, of each of its priorities */
export async function peekHeads(sql: Sql, laneIds: readonly number[], perLane: number, byAge = false): Promise<Head[]> {
  const rows = await sql.unsafe(byAge ? PEEK_OLDEST : PEEK, [numbers(laneIds), perLane], { prepare: true });
  return rows.map((r) => ({
    taskId: r.task_id as string,
    laneId: r.lane_id as number,
    priority: r.priority as number,
    position: r.position as string,
  }));
}
