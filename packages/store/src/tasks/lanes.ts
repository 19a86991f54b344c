import type { ExecutorType, Needs, TaskClass } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { texts } from '../database/literals.ts';
import type { LaneKey } from './submit.ts';

/** A lane as the planner needs it. */
export interface Lane {
  id: number;
  routeId: number;
  namespaceId: number;
  queue: string;
  kind: string;
  executor: ExecutorType;
  taskClass: TaskClass;
  tags: string[];
  /** Resources and requirements of its tasks; null: none. */
  needs: Needs | null;
  paused: boolean;
}

/** Of lanes as l and routes as r. */
export const LANE_COLUMNS = `l.id, l.route_id, l.namespace_id, r.queue, r.kind, l.executor, l.task_class, to_jsonb(l.tags) as tags, l.needs, l.paused`;

/**
 * Begins the tag that stands for a lane's needs: lanes are told apart by their tags, and no worker has this one, so that masters of a
 * version that knows no needs neither give these tasks out nor put others among them.
 */
export const NEEDS_TAG = 'needs:';

/** Finds a namespace by name; null if nobody has used it yet. */
export async function findNamespace(sql: Sql, name: string): Promise<number | null> {
  const [row] = await sql.unsafe('select id from baton.namespaces where name = $1', [name], { prepare: true });
  return row ? (row.id as number) : null;
}

/** Finds or makes a namespace. Two statements, because a statement does not see what another made at the same moment. */
export async function internNamespace(sql: Sql, name: string): Promise<number> {
  const found = await findNamespace(sql, name);
  if (found !== null) return found;
  await sql.unsafe('insert into baton.namespaces (name) values ($1) on conflict do nothing', [name], { prepare: true });
  return (await findNamespace(sql, name)) as number;
}

const FIND_LANE = `select ${LANE_COLUMNS} from baton.routes r join baton.lanes l on l.route_id = r.id
  where r.namespace_id = $1 and r.queue = $2 and r.kind = $3 and l.executor = $4 and l.task_class = $5 and l.tags = $6::text[] and l.fairness_key = ''`;

/**
 * Finds or makes the lane of a task, with its queue and route. Masters cache the result: a lane does not change but for `paused`, which a
 * new one has from its queue, by a trigger.
 */
export async function internLane(sql: Sql, key: LaneKey): Promise<Lane> {
  const { needs, needsHash } = key;
  const tags = needs ? [...key.tags, `${NEEDS_TAG}${needsHash}`].sort() : key.tags;
  const params = [key.namespaceId, key.queue, key.kind, key.executor, key.taskClass, texts(tags)];
  const find = async () => (await sql.unsafe(FIND_LANE, params, { prepare: true }))[0];
  let row = await find();
  if (!row) {
    await sql.unsafe(
      'insert into baton.queues (namespace_id, name) values ($1, $2) on conflict do nothing',
      params.slice(0, 2),
    );
    await sql.unsafe(
      'insert into baton.routes (namespace_id, queue, kind) values ($1, $2, $3) on conflict do nothing',
      params.slice(0, 3),
    );
    await sql.unsafe(
      `insert into baton.lanes (namespace_id, route_id, executor, task_class, tags, needs)
       select $1, r.id, $4, $5, $6::text[], $7::text::jsonb from baton.routes r where r.namespace_id = $1 and r.queue = $2 and r.kind = $3
       on conflict do nothing`,
      [...params, needs ? JSON.stringify(needs) : null],
    );
    row = await find();
  }
  return toLane(row!);
}

/** Lanes may become visible in another order than that of their ids, by as long as making one takes. */
const LATE = `interval '10 min'`;

/** Of lanes `l`: those above an id, those that are so new that one below it may have been missed, and those that are paused. */
export const RECENT_LANES = (id: '$1' | '$2'): string =>
  `l.id > ${id} or l.paused or l.created_at > clock_timestamp() - ${LATE}`;

/**
 * How a master learns of lanes that others made: those above an id, and those that are so new that one below it may have been missed.
 * And of pauses: all lanes that are paused now.
 */
export async function lanesAfter(sql: Sql, id: number): Promise<Lane[]> {
  const rows = await sql.unsafe(
    `/* baton lanes after */ select ${LANE_COLUMNS} from baton.lanes l join baton.routes r on r.id = l.route_id
     where ${RECENT_LANES('$1')} order by l.id`,
    [id],
    { prepare: true },
  );
  return rows.map(toLane);
}

export function toLane(row: Record<string, unknown>): Lane {
  const tags = row.tags as string[];
  const needs = row.needs as Needs | null;
  return {
    id: row.id as number,
    routeId: row.route_id as number,
    namespaceId: row.namespace_id as number,
    queue: row.queue as string,
    kind: row.kind as string,
    executor: row.executor as ExecutorType,
    taskClass: row.task_class as TaskClass,
    tags: needs ? tags.filter((tag) => !tag.startsWith(NEEDS_TAG)) : tags,
    needs,
    paused: row.paused as boolean,
  };
}
