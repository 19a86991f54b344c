import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { booleans, byteas, jsons, numbers, texts } from '../database/literals.ts';
import type { Encoding, NewTask } from '../tasks/new-task.ts';
import { INLINE_INPUT_BYTES } from '../tasks/new-task.ts';
import type { RunNodeState, RunState } from './runs.ts';

/** What a step changes of a node or an item. Null: left as it is, but for `outputHash`, `failure` and `skipReason`. */
interface StepChange {
  /** It starts in this execution now: with a task, a child run, items, or the result of an earlier task. */
  started: boolean;
  /** Its task, when it starts. */
  taskId: string | null;
  childRunId: string | null;
  cached: boolean;
  /** Added to its attempts. */
  attempts: number;
  workerId: number | null;
  outputHash: string | null;
  failure: Failure | null;
  endedAtMs: number | null;
}

export interface NodeChange extends StepChange {
  nodeId: string;
  /** Place among the nodes of the run, from 1. */
  ordinal: number;
  state: RunNodeState;
  skipReason: string | null;
  items: { total: number; started: number; ended: number; failed: number } | null;
}

export interface ItemChange extends StepChange {
  ordinal: number;
  item: number;
  state: 'running' | 'succeeded' | 'failed' | 'cancelled';
}

/** A run that a node starts. */
export interface NewChildRun {
  id: string;
  workflowName: string;
  workflowVersion: number;
  nodeIds: readonly string[];
  input: Uint8Array | null;
  encoding: Encoding;
  labels: Record<string, string> | null;
  parentNodeId: string;
  parentItem: number | null;
}

/** One step of a run, decided from what was read at `revision`. */
export interface RunStep {
  runId: string;
  revision: number;
  state: RunState;
  nodesSucceeded: number;
  nodesEnded: number;
  itemsTotal: number;
  currentNodes: readonly string[];
  failedNodeId: string | null;
  failureMessage: string | null;
  failure: Failure | null;
  output: { bytes: Uint8Array | null; encoding: Encoding; blob: Uint8Array | null } | null;
  nodes: readonly NodeChange[];
  items: readonly ItemChange[];
  tasks: readonly NewTask[];
  children: readonly NewChildRun[];
  /** Tasks whose results are to be used again; `ttlMs`: how long the row is kept. */
  cache: readonly { kind: string; keyHash: Uint8Array; taskId: string; ttlMs: number }[];
  /** Advances that this step answers. */
  advanceIds: readonly string[];
  /** Runs that it waits for from now on and that have ended already: nobody will say so again. */
  endedChildIds: readonly string[];
  /** There is more to be done at once: the run stays due. */
  more: boolean;
}

/**
 * Writes steps of any number of runs: the runs, their nodes and items, tasks and runs of those that start, in one statement. The guard
 * is each run's revision, under its lock: of a run that another master advanced first, or that is being written at this moment,
 * nothing is written. Whatever a run changes besides stands under the same guard, so that no two statements wait for each other.
 *
 * Nodes and items are written as upserts: look-ups by their keys, whatever the planner believes of the tables.
 */
export const STEP_RUNS = `/* baton step runs */
with run_input as materialized (
  select * from unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::integer[], $6::integer[], $7::text[], $8::bytea[],
                       $9::smallint[], $10::bytea[], $11::boolean[])
    i(id, revision, state, nodes_succeeded, nodes_ended, items_total, words, output, output_encoding, output_blob, more)
), locked as materialized (
  select r.id from run_input i cross join lateral (
    select r.id from baton.runs r where r.id = i.id and r.revision = i.revision and r.state in ('pending', 'running') limit 1
    for update skip locked
  ) r
), guard as (
  update baton.runs u set revision = u.revision + 1, state = i.state, nodes_succeeded = i.nodes_succeeded, nodes_ended = i.nodes_ended,
    items_total = i.items_total, failed_node_id = w ->> 'failedNodeId', failure_message = w ->> 'failureMessage', failure = w -> 'failure',
    current_nodes = array(select jsonb_array_elements_text(w -> 'currentNodes')),
    output = i.output, output_encoding = i.output_encoding, output_blob = i.output_blob,
    started_at = case when i.state = 'pending' then u.started_at else coalesce(u.started_at, clock_timestamp()) end,
    ended_at = case when i.state in ('succeeded', 'failed', 'cancelled') then clock_timestamp() end
  from (select *, words::jsonb as w from run_input) i
  where u.id = i.id and u.id = any(array(select id from locked))
  returning u.id, u.namespace_id, u.execution, u.revision, u.state, u.parent_run_id, i.more
), nodes as (
  insert into baton.run_nodes as n (run_id, ordinal, node_id, state, task_id, attempts, worker_id, execution, revision, output_hash,
    ended_at, started_at, failure, child_run_id, cached, skip_reason, items_total, items_started, items_ended, items_failed)
  select g.id, i.ordinal, i.node_id, i.state, i.task_id, i.attempts, i.worker_id, g.execution, g.revision, i.output_hash,
         to_timestamp(i.ended_ms / 1000), case when i.started then clock_timestamp() end, x -> 'failure', (x ->> 'childRunId')::bigint,
         coalesce((x ->> 'cached')::boolean, false), x ->> 'skipReason', (x -> 'items' ->> 'total')::integer,
         (x -> 'items' ->> 'started')::integer, (x -> 'items' ->> 'ended')::integer, (x -> 'items' ->> 'failed')::integer
  from (select *, extra::jsonb as x from unnest($12::bigint[], $13::integer[], $14::text[], $15::text[], $16::bigint[], $17::integer[], $18::integer[],
          $19::text[], $20::double precision[], $21::boolean[], $22::text[])
          i(run_id, ordinal, node_id, state, task_id, attempts, worker_id, output_hash, ended_ms, started, extra)) i
  join guard g on g.id = i.run_id
  on conflict (run_id, node_id) do update set state = excluded.state, task_id = coalesce(excluded.task_id, n.task_id),
    attempts = n.attempts + excluded.attempts, worker_id = coalesce(excluded.worker_id, n.worker_id),
    execution = case when excluded.started_at is null then n.execution else excluded.execution end, revision = excluded.revision,
    output_hash = excluded.output_hash, started_at = coalesce(excluded.started_at, n.started_at),
    ended_at = case when excluded.started_at is null then coalesce(excluded.ended_at, n.ended_at) else excluded.ended_at end,
    failure = excluded.failure, child_run_id = coalesce(excluded.child_run_id, n.child_run_id), cached = excluded.cached,
    skip_reason = excluded.skip_reason, items_total = coalesce(excluded.items_total, n.items_total),
    items_started = coalesce(excluded.items_started, n.items_started), items_ended = coalesce(excluded.items_ended, n.items_ended),
    items_failed = coalesce(excluded.items_failed, n.items_failed)
), items as (
  insert into baton.run_items as n (run_id, ordinal, item, state, task_id, attempts, worker_id, execution, output_hash, ended_at, started_at,
    failure, child_run_id, cached)
  select g.id, i.ordinal, i.item, i.state, i.task_id, i.attempts, i.worker_id, case when i.started then g.execution else 0 end, i.output_hash,
         to_timestamp(i.ended_ms / 1000), clock_timestamp(), x -> 'failure', (x ->> 'childRunId')::bigint, coalesce((x ->> 'cached')::boolean, false)
  from (select *, extra::jsonb as x from unnest($23::bigint[], $24::integer[], $25::integer[], $26::text[], $27::bigint[], $28::integer[],
          $29::integer[], $30::text[], $31::double precision[], $32::boolean[], $33::text[])
          i(run_id, ordinal, item, state, task_id, attempts, worker_id, output_hash, ended_ms, started, extra)) i
  join guard g on g.id = i.run_id
  on conflict (run_id, ordinal, item) do update set state = excluded.state, task_id = coalesce(excluded.task_id, n.task_id),
    attempts = n.attempts + excluded.attempts, worker_id = coalesce(excluded.worker_id, n.worker_id),
    execution = case when excluded.execution = 0 then n.execution else excluded.execution end, output_hash = excluded.output_hash,
    started_at = case when excluded.execution = 0 then n.started_at else excluded.started_at end, ended_at = excluded.ended_at,
    failure = excluded.failure, child_run_id = coalesce(excluded.child_run_id, n.child_run_id),
    cached = case when excluded.execution = 0 then n.cached else excluded.cached end
), stored as (
  insert into baton.tasks (id, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input,
                           executor_config, retry, node_id, item, labels, schedule_to_start_ms, progress_timeout_ms, input_blob)
  select i.id, g.id, i.start_to_close_ms, g.namespace_id, i.route_id, i.lane_id, i.priority, i.max_attempts, i.encoding, i.input,
         x -> 'executor', x -> 'retry', x ->> 'nodeId', (x ->> 'item')::integer, x -> 'labels', (x ->> 'scheduleToStartMs')::bigint,
         (x ->> 'progressTimeoutMs')::bigint, decode(x ->> 'inputBlob', 'hex')
  from (select *, extra::jsonb as x from unnest($34::bigint[], $35::bigint[], $36::integer[], $37::integer[], $38::smallint[], $39::smallint[],
          $40::bigint[], $41::smallint[], $42::bytea[], $43::text[])
          i(run_id, id, route_id, lane_id, priority, max_attempts, start_to_close_ms, encoding, input, extra)) i
  join guard g on g.id = i.run_id
  returning id, run_id, start_to_close_ms, namespace_id, lane_id, priority, max_attempts, input_encoding, input, executor_config,
            schedule_to_start_ms, progress_timeout_ms
), to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
  select id, id, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding,
         case when executor_config is null and progress_timeout_ms is null and octet_length(input) <= ${INLINE_INPUT_BYTES} then input end
  from stored
), to_deadline as (
  insert into baton.start_deadlines (task_id, timeout_ms, expires_at)
  select id, schedule_to_start_ms, clock_timestamp() + schedule_to_start_ms * interval '1 ms' from stored where schedule_to_start_ms is not null
), child_input as materialized (
  select i.*, i.extra::jsonb as x, g.namespace_id, g.id as parent from unnest($44::bigint[], $45::bigint[], $46::bytea[], $47::smallint[], $48::text[])
    i(run_id, id, input, encoding, extra) join guard g on g.id = i.run_id
), children as (
  insert into baton.runs (id, namespace_id, workflow_name, workflow_version, nodes_total, state, input, input_encoding, labels,
                          parent_run_id, parent_node_id, parent_item)
  select id, namespace_id, x ->> 'workflowName', (x ->> 'workflowVersion')::integer, jsonb_array_length(x -> 'nodeIds'), 'pending', input,
         encoding, x -> 'labels', parent, x ->> 'parentNodeId', (x ->> 'parentItem')::integer
  from child_input returning id, namespace_id
), child_nodes as (
  insert into baton.run_nodes (run_id, ordinal, node_id, state)
  select c.id, n.ordinal, n.node_id, 'pending' from child_input c, jsonb_array_elements_text(c.x -> 'nodeIds') with ordinality n(node_id, ordinal)
), cached as (
  insert into baton.result_cache as k (namespace_id, kind, key_hash, task_id, expires_at)
  select distinct on (g.namespace_id, i.kind, i.key_hash) g.namespace_id, i.kind, i.key_hash, i.task_id, clock_timestamp() + i.ttl_ms * interval '1 ms'
  from unnest($49::bigint[], $50::text[], $51::bytea[], $52::bigint[], $53::double precision[]) i(run_id, kind, key_hash, task_id, ttl_ms)
  join guard g on g.id = i.run_id order by g.namespace_id, i.kind, i.key_hash
  on conflict (namespace_id, kind, key_hash) do update set task_id = excluded.task_id, expires_at = excluded.expires_at
), answered as (
  delete from baton.advances a where a.id = any($54::bigint[]) and a.run_id in (select id from guard)
), advanced as (
  insert into baton.advances (run_id, child_run_id)
  select id, null::bigint from guard where more and state in ('pending', 'running')
  union all select id, null from children
  union all select g.id, i.child_run_id from unnest($55::bigint[], $56::bigint[]) i(run_id, child_run_id) join guard g on g.id = i.run_id
  union all select parent_run_id, id from guard where parent_run_id is not null and state in ('succeeded', 'failed', 'cancelled')
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(type), array_agg(task_id), array_agg(run_id), array_agg(0::smallint), array_agg(0)
  from (select namespace_id, (case when state in ('succeeded', 'failed', 'cancelled') then 11 else 10 end)::smallint as type, 0::bigint as task_id, id as run_id from guard
        union all select namespace_id, 9::smallint, 0, id from children
        union all select namespace_id, 1::smallint, id, run_id from stored) e
  having count(*) > 0
)
select id, parent_run_id is not null and state in ('succeeded', 'failed', 'cancelled') as tells from guard`;

/** @returns the runs that were written; `tells`: its parent has something to do now */
export async function stepRuns(sql: Sql, steps: readonly RunStep[]): Promise<Map<string, { tells: boolean }>> {
  const of = <T extends object>(list: (step: RunStep) => readonly T[]) =>
    steps.flatMap((step) => list(step).map((each) => [step.runId, each] as const));
  const nodes = of((s) => s.nodes);
  const items = of((s) => s.items);
  const tasks = of((s) => s.tasks).sort(([, a], [, b]) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
  const children = of((s) => s.children);
  const cache = of((s) => s.cache);
  const rows = await sql.unsafe(
    STEP_RUNS,
    [
      numbers(steps.map((s) => s.runId)),
      numbers(steps.map((s) => s.revision)),
      texts(steps.map((s) => s.state)),
      numbers(steps.map((s) => s.nodesSucceeded)),
      numbers(steps.map((s) => s.nodesEnded)),
      numbers(steps.map((s) => s.itemsTotal)),
      jsons(
        steps.map((s) => ({
          currentNodes: s.currentNodes,
          ...(s.failedNodeId !== null && { failedNodeId: s.failedNodeId }),
          ...(s.failureMessage !== null && { failureMessage: s.failureMessage }),
          ...(s.failure !== null && { failure: s.failure }),
        })),
      ),
      byteas(steps.map((s) => s.output?.bytes ?? null)),
      numbers(steps.map((s) => s.output?.encoding ?? null)),
      byteas(steps.map((s) => s.output?.blob ?? null)),
      booleans(steps.map((s) => s.more)),
      numbers(nodes.map(([run]) => run)),
      numbers(nodes.map(([, n]) => n.ordinal)),
      texts(nodes.map(([, n]) => n.nodeId)),
      texts(nodes.map(([, n]) => n.state)),
      numbers(nodes.map(([, n]) => n.taskId)),
      numbers(nodes.map(([, n]) => n.attempts)),
      numbers(nodes.map(([, n]) => n.workerId)),
      texts(nodes.map(([, n]) => n.outputHash)),
      numbers(nodes.map(([, n]) => n.endedAtMs)),
      booleans(nodes.map(([, n]) => n.started)),
      jsons(nodes.map(([, n]) => extraOf(n, n.skipReason, n.items))),
      numbers(items.map(([run]) => run)),
      numbers(items.map(([, n]) => n.ordinal)),
      numbers(items.map(([, n]) => n.item)),
      texts(items.map(([, n]) => n.state)),
      numbers(items.map(([, n]) => n.taskId)),
      numbers(items.map(([, n]) => n.attempts)),
      numbers(items.map(([, n]) => n.workerId)),
      texts(items.map(([, n]) => n.outputHash)),
      numbers(items.map(([, n]) => n.endedAtMs)),
      booleans(items.map(([, n]) => n.started)),
      jsons(items.map(([, n]) => extraOf(n, null, null))),
      numbers(tasks.map(([run]) => run)),
      numbers(tasks.map(([, t]) => t.id)),
      numbers(tasks.map(([, t]) => t.routeId)),
      numbers(tasks.map(([, t]) => t.laneId)),
      numbers(tasks.map(([, t]) => t.priority)),
      numbers(tasks.map(([, t]) => t.maxAttempts)),
      numbers(tasks.map(([, t]) => t.startToCloseMs)),
      numbers(tasks.map(([, t]) => t.encoding)),
      byteas(tasks.map(([, t]) => t.input)),
      jsons(tasks.map(([, t]) => t.extra)),
      numbers(children.map(([run]) => run)),
      numbers(children.map(([, c]) => c.id)),
      byteas(children.map(([, c]) => c.input)),
      numbers(children.map(([, c]) => c.encoding)),
      jsons(
        children.map(([, { id: _, input: __, encoding: ___, labels, parentItem, ...rest }]) => ({
          ...rest,
          ...(labels && { labels }),
          ...(parentItem !== null && { parentItem }),
        })),
      ),
      numbers(cache.map(([run]) => run)),
      texts(cache.map(([, c]) => c.kind)),
      byteas(cache.map(([, c]) => c.keyHash)),
      numbers(cache.map(([, c]) => c.taskId)),
      numbers(cache.map(([, c]) => c.ttlMs)),
      numbers(steps.flatMap((s) => s.advanceIds)),
      numbers(steps.flatMap((s) => s.endedChildIds.map(() => s.runId))),
      numbers(steps.flatMap((s) => s.endedChildIds)),
    ],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.id as string, { tells: r.tells as boolean }]));
}

/** What few changes have; a SQL NULL where this one has none of it. */
function extraOf(change: StepChange, skipReason: string | null, items: NodeChange['items']): object | null {
  if (!change.failure && !change.childRunId && !change.cached && skipReason === null && !items) return null;
  return {
    ...(change.failure && { failure: change.failure }),
    ...(change.childRunId && { childRunId: change.childRunId }),
    ...(change.cached && { cached: true }),
    ...(skipReason !== null && { skipReason }),
    ...(items && { items }),
  };
}
