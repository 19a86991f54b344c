import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import type { EventPosition } from '../events/events.ts';

/** Those of these tasks that exist in the namespace. */
export async function knownTasks(sql: Sql, namespaceId: number, taskIds: readonly string[]): Promise<Set<string>> {
  const rows = await sql.unsafe(
    `/* baton known tasks */ select t.id from unnest($1::bigint[]) i(id)
     cross join lateral (select t.id from baton.tasks t where t.id = i.id and t.namespace_id = $2 limit 1) t`,
    [numbers(taskIds), namespaceId],
    { prepare: true },
  );
  return new Set(rows.map((r) => r.id as string));
}

/**
 * Whether a task's end comes behind a position of the event log. What is visible here and is not behind it was written before it;
 * so each end is on exactly one side, whenever one looks.
 */
const LATER = `later as materialized (
  select distinct k.task_id from baton.events e cross join lateral unnest(e.types, e.task_ids) k(type, task_id)
  where (e.xid, e.id) > ($1::text::xid8, $2::bigint) and k.type in (5, 6, 7)
)`;

/** Those of these tasks whose end stands at or before a position of the event log, by id. */
export async function endedBefore(
  sql: Sql,
  position: EventPosition,
  namespaceId: number,
  taskIds: readonly string[],
): Promise<string[]> {
  const rows = await sql.unsafe(
    `/* baton ended before */ with ${LATER}
     select o.task_id from unnest($3::bigint[]) i(id) join baton.outcomes o on o.task_id = i.id
     where o.namespace_id = $4 and not exists (select from later l where l.task_id = o.task_id) order by o.task_id`,
    [position.xid, position.id, numbers(taskIds), namespaceId],
    { prepare: true },
  );
  return rows.map((r) => r.task_id as string);
}

/** The highest id among the tasks that have ended; '0' when none has. */
export async function lastEnded(sql: Sql): Promise<string> {
  const [row] = await sql.unsafe(
    '/* baton last ended */ select coalesce(max(task_id), 0) as id from baton.outcomes',
    [],
    {
      prepare: true,
    },
  );
  return String(row!.id);
}

/**
 * The same for all tasks of a namespace, a page by id: of the next `limit` that have ended (`last` is the highest of them, null at
 * the end of the list), those whose end stands at or before the position.
 */
export async function endedBeforePage(
  sql: Sql,
  position: EventPosition,
  namespaceId: number,
  range: { after: string; upTo: string },
  limit: number,
): Promise<{ taskIds: string[]; last: string | null }> {
  const rows = await sql.unsafe(
    `/* baton ended before, page */ with ${LATER}, page as materialized (
       select o.task_id from baton.outcomes o where o.task_id > $4 and o.task_id <= $5 and o.namespace_id = $3 order by o.task_id limit $6
     )
     select p.task_id, not exists (select from later l where l.task_id = p.task_id) as before from page p order by p.task_id`,
    [position.xid, position.id, namespaceId, range.after, range.upTo, limit],
    { prepare: true },
  );
  return {
    taskIds: rows.filter((r) => r.before).map((r) => r.task_id as string),
    last: (rows.at(-1)?.task_id as string | undefined) ?? null,
  };
}
