import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';

export type RunItemState = 'pending' | 'running' | 'succeeded' | 'failed' | 'cancelled';

/** How the items of a node stand that have been started, in this execution or before. */
export async function readItemStates(
  sql: Sql,
  runId: string,
  ordinal: number,
): Promise<{ item: number; state: RunItemState; childRunId: string | null; failure: Failure | null }[]> {
  const rows = await sql.unsafe(
    `/* baton item states */ select item, state, child_run_id, failure from baton.run_items where run_id = $1 and ordinal = $2 order by item`,
    [runId, ordinal],
    { prepare: true },
  );
  return rows.map((r) => ({
    item: r.item as number,
    state: r.state as RunItemState,
    childRunId: r.child_run_id as string | null,
    failure: r.failure as Failure | null,
  }));
}

/** The hashes of the outputs of a node's items, in their order; of a task that has ended, whether the item says so already or not. */
export async function itemHashes(sql: Sql, runId: string, ordinal: number): Promise<Map<number, string>> {
  const rows = await sql.unsafe(
    `/* baton item hashes */ select item, output_hash from baton.run_items where run_id = $1 and ordinal = $2 and output_hash is not null order by item`,
    [runId, ordinal],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.item as number, r.output_hash as string]));
}

/** Tasks and child runs that run now for items of these nodes of a run: what a cancellation asks to stop. */
export async function runningItems(
  sql: Sql,
  runId: string,
  ordinals: readonly number[],
): Promise<{ taskIds: string[]; childRunIds: string[] }> {
  const rows = await sql.unsafe(
    `/* baton running items */ select task_id, child_run_id from baton.run_items where run_id = $1 and ordinal = any($2::integer[]) and state = 'running' order by task_id`,
    [runId, numbers(ordinals)],
    { prepare: true },
  );
  return {
    taskIds: rows.filter((r) => r.child_run_id === null && r.task_id !== null).map((r) => r.task_id as string),
    childRunIds: rows.filter((r) => r.child_run_id !== null).map((r) => r.child_run_id as string),
  };
}

export interface RunItemRow {
  item: number;
  state: RunItemState;
  taskId: string | null;
  childRunId: string | null;
  execution: number;
  attempts: number;
  worker: string | null;
  outputHash: string | null;
  cached: boolean;
  failure: Failure | null;
  startedAt: Date;
  endedAt: Date | null;
}

/** Items of a node that have been started, a keyset page; empty `states`: all. */
export async function listRunItems(
  sql: Sql,
  page: { runId: string; nodeId: string; states: readonly string[]; after: number; limit: number },
): Promise<RunItemRow[]> {
  const rows = await sql.unsafe(
    `/* baton list run items */
     select i.item, i.state, i.task_id, i.child_run_id, i.execution, i.cached, i.started_at, i.ended_at, i.output_hash, i.failure,
            i.attempts + coalesce(l.attempt, y.attempt, w.attempt, case when i.state = 'running' then o.attempt end, 0) as attempts, k.name as worker
     from (
       select i.* from baton.run_nodes n join baton.run_items i on i.run_id = n.run_id and i.ordinal = n.ordinal
       where n.run_id = $1 and n.node_id = $2 and i.item > $3 and (cardinality($4::text[]) = 0 or i.state = any($4::text[]))
       order by i.item limit $5
     ) i
     left join baton.outcomes o on o.task_id = i.task_id and i.state = 'running'
     left join baton.leases l on l.task_id = i.task_id and i.state = 'running'
     left join baton.ready y on y.task_id = i.task_id and i.state = 'running'
     left join baton.waiting w on w.task_id = i.task_id and i.state = 'running'
     left join baton.sessions s on s.id = l.session_id
     left join baton.workers k on k.id = coalesce(s.worker_id, case when i.state = 'running' then o.worker_id end, i.worker_id)
     order by i.item`,
    [page.runId, page.nodeId, page.after, texts(page.states), page.limit],
    { prepare: true },
  );
  return rows.map((r) => ({
    item: r.item as number,
    state: r.state as RunItemState,
    taskId: r.task_id as string | null,
    childRunId: r.child_run_id as string | null,
    execution: r.execution as number,
    attempts: r.attempts as number,
    worker: r.worker as string | null,
    outputHash: r.output_hash as string | null,
    cached: r.cached as boolean,
    failure: r.failure as Failure | null,
    startedAt: r.started_at as Date,
    endedAt: r.ended_at as Date | null,
  }));
}

/** The workflows of this run and of those above it, the outermost first, up to a limit. */
export async function runAncestry(sql: Sql, runId: string, limit: number): Promise<string[]> {
  const rows = await sql.unsafe(
    `/* baton run ancestry */ with recursive up as (
       select parent_run_id, workflow_name, 1 as depth from baton.runs where id = $1
       union all select r.parent_run_id, r.workflow_name, u.depth + 1 from up u join baton.runs r on r.id = u.parent_run_id where u.depth < $2
     ) select workflow_name from up order by depth desc`,
    [runId, limit],
    { prepare: true },
  );
  return rows.map((r) => r.workflow_name as string);
}
