import type { Failure } from '@baton/domain';
import type { Sql } from './connection.ts';
import { byteas, jsons, numbers, texts } from './literals.ts';
import type { Encoding, NewTask } from './submit.ts';
import { INLINE_INPUT_BYTES } from './submit.ts';

export type RunState = 'pending' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'cancelled';
export type RunNodeState = 'pending' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';

export interface NewRun {
  id: string;
  namespaceId: number;
  workflowName: string;
  workflowVersion: number;
  /** In an order in which they could run. */
  nodeIds: readonly string[];
  input: Uint8Array | null;
  encoding: Encoding;
  labels: Record<string, string> | null;
  idempotency: { key: string; bodyHash: Uint8Array; ttlMs: number } | null;
}

/** Stores a run with its nodes, all pending, and its first advance. Returns false when its idempotency key is taken. */
export async function insertRun(sql: Sql, run: NewRun): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton insert run */
     with keyed as (
       insert into baton.idempotency (namespace_id, scope, key, body_hash, id, expires_at)
       select $2, 'run:' || $3, $10, $11, $1, clock_timestamp() + $12::double precision * interval '1 ms' where $10::text is not null
       on conflict do nothing returning id
     ), stored as (
       insert into baton.runs (id, namespace_id, workflow_name, workflow_version, nodes_total, state, input, input_encoding, labels, idempotency_key)
       select $1, $2, $3, $4, $5, 'pending', $6, $7, $8::text::jsonb, $10 where $10::text is null or exists (select from keyed)
       on conflict (id) do nothing returning id
     ), nodes as (
       insert into baton.run_nodes (run_id, ordinal, node_id, state)
       select stored.id, n.ordinal, n.node_id, 'pending' from stored, unnest($9::text[]) with ordinality n(node_id, ordinal)
     ), advanced as (
       insert into baton.advances (run_id) select id from stored
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array[$2::integer], array[9]::smallint[], array[0::bigint], array[id], array[0::smallint], array[0] from stored
     )
     select id from stored`,
    [
      run.id,
      run.namespaceId,
      run.workflowName,
      run.workflowVersion,
      run.nodeIds.length,
      run.input,
      run.encoding,
      run.labels ? JSON.stringify(run.labels) : null,
      texts(run.nodeIds),
      run.idempotency?.key ?? null,
      run.idempotency?.bodyHash ?? null,
      run.idempotency?.ttlMs ?? 0,
    ] as never[],
    { prepare: true },
  );
  return rows.length > 0;
}

export interface RunRow {
  id: string;
  namespaceId: number;
  workflowName: string;
  workflowVersion: number;
  execution: number;
  revision: number;
  state: RunState;
  nodesTotal: number;
  nodesSucceeded: number;
  createdAt: Date;
  startedAt: Date | null;
  endedAt: Date | null;
  failedNodeId: string | null;
  failureMessage: string | null;
  cancelReason: string | null;
  labels: Record<string, string> | null;
  input: Uint8Array | null;
  inputEncoding: Encoding;
}

const RUN_COLUMNS = `u.id, u.namespace_id, u.workflow_name, u.workflow_version, u.execution, u.revision, u.state, u.nodes_total, u.nodes_succeeded,
  u.created_at, u.started_at, u.ended_at, u.failed_node_id, u.failure_message, u.cancel_reason, u.labels, u.input, u.input_encoding`;

export async function readRun(sql: Sql, namespaceId: number | null, id: string): Promise<RunRow | null> {
  const [row] = await sql.unsafe(
    `select ${RUN_COLUMNS} from baton.runs u where u.id = $1 and ($2::integer is null or u.namespace_id = $2)`,
    [id, namespaceId],
    { prepare: true },
  );
  return row ? toRun(row) : null;
}

export interface RunNodeRow {
  nodeId: string;
  state: RunNodeState;
  taskId: string | null;
  execution: number;
  attempts: number;
  worker: string | null;
  startedAt: Date | null;
  endedAt: Date | null;
  outputHash: string | null;
  failure: Failure | null;
  /** Only when asked for. */
  output: Uint8Array | null;
  outputEncoding: Encoding | null;
}

/** The nodes of a run in their order. A running node's attempts and worker are those of its lease, or of its end that no advance has seen yet. */
export async function readRunNodes(sql: Sql, runId: string, outputs: boolean): Promise<RunNodeRow[]> {
  const rows = await sql.unsafe(
    `select n.node_id, n.state, n.task_id, n.execution, n.attempts + coalesce(l.attempt, y.attempt, w.attempt, case when n.state = 'running' then o.attempt end, 0) as attempts, k.name as worker,
            n.started_at, n.ended_at, n.output_hash, n.failure, o.output_encoding, ${outputs ? 'o.output' : 'null::bytea as output'}
     from baton.run_nodes n
     left join baton.outcomes o on o.task_id = n.task_id and n.state in ('running', 'succeeded')
     left join baton.leases l on l.task_id = n.task_id and n.state = 'running'
     left join baton.ready y on y.task_id = n.task_id and n.state = 'running'
     left join baton.waiting w on w.task_id = n.task_id and n.state = 'running'
     left join baton.sessions s on s.id = l.session_id
     left join baton.workers k on k.id = coalesce(s.worker_id, case when n.state = 'running' then o.worker_id end, n.worker_id)
     where n.run_id = $1 order by n.ordinal`,
    [runId],
    { prepare: true },
  );
  return rows.map((r) => ({
    nodeId: r.node_id as string,
    state: r.state as RunNodeState,
    taskId: r.task_id as string | null,
    execution: r.execution as number,
    attempts: r.attempts as number,
    worker: r.worker as string | null,
    startedAt: r.started_at as Date | null,
    endedAt: r.ended_at as Date | null,
    outputHash: r.output_hash as string | null,
    failure: r.failure as Failure | null,
    output: r.output as Uint8Array | null,
    outputEncoding: r.output_encoding as Encoding | null,
  }));
}

export async function listRuns(
  sql: Sql,
  page: {
    namespaceId: number;
    states: readonly RunState[];
    workflowName: string | null;
    before: string | null;
    limit: number;
  },
): Promise<RunRow[]> {
  const rows = await sql.unsafe(
    `/* baton list runs */ select ${RUN_COLUMNS} from baton.runs u
     where u.namespace_id = $1 and u.id < $2 and (cardinality($3::text[]) = 0 or u.state = any($3::text[])) and ($4::text is null or u.workflow_name = $4)
     order by u.id desc limit $5`,
    [page.namespaceId, page.before ?? '9223372036854775807', texts(page.states), page.workflowName, page.limit],
    { prepare: true },
  );
  return rows.map(toRun);
}

/** Runs that have something to do, the longest waiting first. */
export async function dueAdvances(
  sql: Sql,
  limit: number,
): Promise<{ runId: string; advanceIds: string[]; isFunction: boolean }[]> {
  const rows = await sql.unsafe(
    `/* baton due advances */ select a.run_id, a.ids, coalesce(u.form = 'function', false) as is_function
     from (select run_id, jsonb_agg(id::text) as ids, min(id) as first from (select id, run_id from baton.advances order by id limit $1) a
           group by run_id) a left join baton.runs u on u.id = a.run_id order by a.first`,
    [limit],
    { prepare: true },
  );
  return rows.map((r) => ({
    runId: r.run_id as string,
    advanceIds: r.ids as string[],
    isFunction: r.is_function as boolean,
  }));
}

/** How the tasks of a run's running nodes ended. */
export async function endedNodes(
  sql: Sql,
  runId: string,
): Promise<
  {
    nodeId: string;
    state: 'succeeded' | 'failed' | 'cancelled';
    attempts: number;
    workerId: number | null;
    outputHash: string | null;
    failure: Failure | null;
    endedAtMs: number;
  }[]
> {
  const rows = await sql.unsafe(
    `/* baton ended nodes */ select n.node_id, o.state, o.attempt, o.worker_id,
            coalesce(encode(o.output_blob, 'hex'), encode(sha256(o.output), 'hex')) as hash, o.failure,
            extract(epoch from o.ended_at)::double precision * 1000 as ended_ms
     from baton.run_nodes n join baton.outcomes o on o.task_id = n.task_id where n.run_id = $1 and n.state = 'running'`,
    [runId],
    { prepare: true },
  );
  return rows.map((r) => ({
    nodeId: r.node_id as string,
    state: r.state as 'succeeded',
    attempts: r.attempt as number,
    workerId: r.worker_id as number | null,
    outputHash: r.hash as string | null,
    failure: r.failure as Failure | null,
    endedAtMs: r.ended_ms as number,
  }));
}

/** One step of a run, decided from what was read at `revision`. */
export interface RunStep {
  runId: string;
  revision: number;
  state: RunState;
  nodesSucceeded: number;
  failedNodeId: string | null;
  failureMessage: string | null;
  nodes: {
    nodeId: string;
    state: RunNodeState;
    /** New task of the node, when it starts. */
    taskId: string | null;
    /** Added to the node's attempts. */
    attempts: number;
    workerId: number | null;
    outputHash: string | null;
    failure: Failure | null;
    endedAtMs: number | null;
  }[];
  tasks: readonly NewTask[];
  /** Advances that this step answers. */
  advanceIds: readonly string[];
}

/**
 * Writes one step of a run: the run, its nodes, the tasks of nodes that start, in one statement. The guard is the run's
 * revision: when another master advanced it first, nothing is written and false returned.
 */
export const STEP_RUN = `/* baton step run */
with guard as (
  update baton.runs set revision = revision + 1, state = $3, nodes_succeeded = $4, failed_node_id = $5, failure_message = $6,
    started_at = case when $3 = 'pending' then started_at else coalesce(started_at, clock_timestamp()) end,
    ended_at = case when $3 in ('succeeded', 'failed', 'cancelled') then clock_timestamp() end
  where id = $1 and revision = $2 and state in ('pending', 'running')
  returning id, namespace_id, execution
), node_input as materialized (
  select * from unnest($7::text[], $8::text[], $9::bigint[], $10::integer[], $11::integer[], $12::text[], $13::text[], $14::double precision[])
    i(node_id, state, task_id, attempts, worker_id, output_hash, failure, ended_ms)
), nodes as (
  update baton.run_nodes n
  set state = i.state, task_id = coalesce(i.task_id, n.task_id), attempts = n.attempts + i.attempts, execution = case when i.task_id is null then n.execution else guard.execution end,
      worker_id = coalesce(i.worker_id, n.worker_id), output_hash = i.output_hash, failure = i.failure::jsonb,
      started_at = case when i.task_id is null then n.started_at else clock_timestamp() end,
      ended_at = case when i.task_id is not null then null when i.ended_ms is null then n.ended_at else to_timestamp(i.ended_ms / 1000) end
  from node_input i, guard where n.run_id = guard.id and n.node_id = i.node_id
), stored as (
  insert into baton.tasks (id, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input,
                           executor_config, retry, node_id)
  select i.id, guard.id, i.start_to_close_ms, guard.namespace_id, i.route_id, i.lane_id, i.priority, i.max_attempts, i.encoding, i.input,
         x -> 'executor', x -> 'retry', x ->> 'nodeId'
  from guard, (select *, extra::jsonb as x from unnest($15::bigint[], $16::integer[], $17::integer[], $18::smallint[], $19::smallint[], $20::bigint[],
                 $21::smallint[], $22::bytea[], $23::text[]) i(id, route_id, lane_id, priority, max_attempts, start_to_close_ms, encoding, input, extra)) i
  returning id, run_id, start_to_close_ms, namespace_id, lane_id, priority, max_attempts, input_encoding, input, executor_config
), to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
  select id, id, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding,
         case when executor_config is null and octet_length(input) <= ${INLINE_INPUT_BYTES} then input end
  from stored
), answered as (
  delete from baton.advances a using guard where a.id = any($24::bigint[])
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(type), array_agg(task_id), array_agg(run_id), array_agg(0::smallint), array_agg(0)
  from (select namespace_id, (case when $3 in ('succeeded', 'failed', 'cancelled') then 11 else 10 end)::smallint as type, 0::bigint as task_id, id as run_id from guard
        union all
        select namespace_id, 1::smallint, id, run_id from stored) e
  having count(*) > 0
)
select id from guard`;

export async function stepRun(sql: Sql, step: RunStep): Promise<boolean> {
  const rows = await sql.unsafe(
    STEP_RUN,
    [
      step.runId,
      step.revision,
      step.state,
      step.nodesSucceeded,
      step.failedNodeId,
      step.failureMessage,
      texts(step.nodes.map((n) => n.nodeId)),
      texts(step.nodes.map((n) => n.state)),
      numbers(step.nodes.map((n) => n.taskId)),
      numbers(step.nodes.map((n) => n.attempts)),
      numbers(step.nodes.map((n) => n.workerId)),
      texts(step.nodes.map((n) => n.outputHash)),
      jsons(step.nodes.map((n) => n.failure)),
      numbers(step.nodes.map((n) => n.endedAtMs)),
      numbers(step.tasks.map((t) => t.id)),
      numbers(step.tasks.map((t) => t.routeId)),
      numbers(step.tasks.map((t) => t.laneId)),
      numbers(step.tasks.map((t) => t.priority)),
      numbers(step.tasks.map((t) => t.maxAttempts)),
      numbers(step.tasks.map((t) => t.startToCloseMs)),
      numbers(step.tasks.map((t) => t.encoding)),
      byteas(step.tasks.map((t) => t.input)),
      jsons(step.tasks.map((t) => t.extra)),
      numbers(step.advanceIds),
    ],
    { prepare: true },
  );
  return rows.length > 0;
}

/** Advances of runs that have ended need no answer. */
export async function dropAdvances(sql: Sql, advanceIds: readonly string[]): Promise<void> {
  await sql.unsafe('delete from baton.advances where id = any($1::bigint[])', [numbers(advanceIds)], { prepare: true });
}

/** Asks a run to stop; the next advance carries it out. Returns its state then, or null if there is no such run. */
export async function requestRunCancel(
  sql: Sql,
  namespaceId: number,
  runId: string,
  reason: string,
): Promise<RunState | null> {
  const [row] = await sql.unsafe(
    `/* baton cancel run */
     with asked as (
       update baton.runs set cancel_reason = coalesce(cancel_reason, $3), revision = revision + 1
       where id = $1 and namespace_id = $2 and state in ('pending', 'running', 'waiting') returning id
     ), advanced as (insert into baton.advances (run_id) select id from asked)
     select state from baton.runs where id = $1 and namespace_id = $2`,
    [runId, namespaceId, reason],
  );
  return row ? (row.state as RunState) : null;
}

/** Opens the next execution of an ended run: the named nodes are pending again. False when it was not in this revision any more. */
export async function reopenRun(
  sql: Sql,
  runId: string,
  revision: number,
  nodeIds: readonly string[],
): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton retry run */
     with guard as (
       update baton.runs set revision = revision + 1, execution = execution + 1, state = 'running', ended_at = null, failed_node_id = null,
         failure_message = null, cancel_reason = null, started_at = clock_timestamp()
       where id = $1 and revision = $2 and state in ('failed', 'cancelled') returning id, namespace_id
     ), nodes as (
       update baton.run_nodes n set state = 'pending', task_id = null, output_hash = null, failure = null, started_at = null, ended_at = null
       from guard where n.run_id = guard.id and n.node_id = any($3::text[])
     ), advanced as (
       insert into baton.advances (run_id) select id from guard
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array[namespace_id], array[9]::smallint[], array[0::bigint], array[id], array[0::smallint], array[0] from guard
     )
     select id from guard`,
    [runId, revision, texts(nodeIds)],
  );
  return rows.length > 0;
}

export interface NodeOutput {
  /** Null where a blob is the output. */
  output: Uint8Array | null;
  encoding: Encoding;
  blob: { sha256: string; sizeBytes: number } | null;
}

/** Outputs of succeeded nodes, for the inputs of those that follow. */
export async function nodeOutputs(
  sql: Sql,
  runId: string,
  nodeIds: readonly string[],
): Promise<Map<string, NodeOutput>> {
  const rows = await sql.unsafe(
    `/* baton node outputs */ select n.node_id, o.output, o.output_encoding, encode(o.output_blob, 'hex') as output_blob, b.size_bytes
     from baton.run_nodes n join baton.outcomes o on o.task_id = n.task_id
     left join baton.blobs b on b.namespace_id = o.namespace_id and b.sha256 = o.output_blob
     where n.run_id = $1 and n.node_id = any($2::text[])`,
    [runId, texts(nodeIds)],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => [
      r.node_id as string,
      {
        output: r.output as Uint8Array | null,
        encoding: (r.output_encoding ?? 1) as Encoding,
        blob: r.output_blob ? { sha256: r.output_blob as string, sizeBytes: Number(r.size_bytes) } : null,
      },
    ]),
  );
}

function toRun(r: Record<string, unknown>): RunRow {
  return {
    id: r.id as string,
    namespaceId: r.namespace_id as number,
    workflowName: r.workflow_name as string,
    workflowVersion: r.workflow_version as number,
    execution: r.execution as number,
    revision: r.revision as number,
    state: r.state as RunState,
    nodesTotal: r.nodes_total as number,
    nodesSucceeded: r.nodes_succeeded as number,
    createdAt: r.created_at as Date,
    startedAt: r.started_at as Date | null,
    endedAt: r.ended_at as Date | null,
    failedNodeId: r.failed_node_id as string | null,
    failureMessage: r.failure_message as string | null,
    cancelReason: r.cancel_reason as string | null,
    labels: r.labels as Record<string, string> | null,
    input: r.input as Uint8Array | null,
    inputEncoding: r.input_encoding as Encoding,
  };
}
