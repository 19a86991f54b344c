import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { byteas, jsons, numbers, texts } from '../database/literals.ts';
import type { Encoding } from '../tasks/new-task.ts';

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
  /** The run that starts it, and what of it. */
  parent?: { runId: string; nodeId: string; item?: number | null } | null;
}

/**
 * Stores runs with their nodes, all pending, and their first advances. A run whose idempotency key is taken is not stored.
 *
 * @returns the runs that were stored now
 */
export async function insertRuns(sql: Sql, runs: readonly NewRun[]): Promise<Set<string>> {
  const rows = await sql.unsafe(
    `/* baton insert runs */
     with input as materialized (
       select i.*, i.extra::jsonb as x from unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::bytea[], $6::smallint[], $7::text[],
         $8::text[], $9::bytea[], $10::double precision[])
         i(id, namespace_id, name, version, input, encoding, extra, key, body_hash, ttl_ms)
     ), keyed as (
       insert into baton.idempotency (namespace_id, scope, key, body_hash, id, expires_at)
       select namespace_id, 'run:' || name, key, body_hash, id, clock_timestamp() + ttl_ms * interval '1 ms' from input
       where key is not null order by namespace_id, name, key
       on conflict do nothing returning id
     ), stored as (
       insert into baton.runs (id, namespace_id, workflow_name, workflow_version, nodes_total, state, input, input_encoding, labels, idempotency_key,
                               parent_run_id, parent_node_id, parent_item)
       select id, namespace_id, name, version, jsonb_array_length(x -> 'nodeIds'), 'pending', input, encoding, x -> 'labels', key,
              (x ->> 'parentRunId')::bigint, x ->> 'parentNodeId', (x ->> 'parentItem')::integer
       from input where key is null or id in (select id from keyed)
       on conflict (id) do nothing returning id, namespace_id
     ), nodes as (
       insert into baton.run_nodes (run_id, ordinal, node_id, state)
       select s.id, n.ordinal, n.node_id, 'pending'
       from stored s join input i on i.id = s.id, jsonb_array_elements_text(i.x -> 'nodeIds') with ordinality n(node_id, ordinal)
     ), advanced as (
       insert into baton.advances (run_id) select id from stored
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array_agg(namespace_id), array_agg(9::smallint), array_agg(0::bigint), array_agg(id), array_agg(0::smallint), array_agg(0)
       from stored having count(*) > 0
     )
     select id from stored`,
    [
      numbers(runs.map((r) => r.id)),
      numbers(runs.map((r) => r.namespaceId)),
      texts(runs.map((r) => r.workflowName)),
      numbers(runs.map((r) => r.workflowVersion)),
      byteas(runs.map((r) => r.input)),
      numbers(runs.map((r) => r.encoding)),
      jsons(
        runs.map((r) => ({
          nodeIds: r.nodeIds,
          ...(r.labels && { labels: r.labels }),
          ...(r.parent && { parentRunId: r.parent.runId, parentNodeId: r.parent.nodeId }),
          ...(r.parent?.item != null && { parentItem: r.parent.item }),
        })),
      ),
      texts(runs.map((r) => r.idempotency?.key ?? null)),
      byteas(runs.map((r) => r.idempotency?.bodyHash ?? null)),
      numbers(runs.map((r) => r.idempotency?.ttlMs ?? null)),
    ],
    { prepare: true },
  );
  return new Set(rows.map((r) => r.id as string));
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
  form: 'graph' | 'function';
  nodesEnded: number;
  itemsTotal: number;
  currentNodes: string[] | null;
  output: Uint8Array | null;
  outputEncoding: Encoding | null;
  /** The blob that is the output; SHA-256 in hex. */
  outputBlob: { sha256: string; sizeBytes: number } | null;
  failure: Failure | null;
  parentRunId: string | null;
  parentNodeId: string | null;
  waitingFor: string[] | null;
  release: string | null;
}

export const RUN_COLUMNS = `u.id, u.namespace_id, u.workflow_name, u.workflow_version, u.execution, u.revision, u.state, u.nodes_total, u.nodes_succeeded,
  u.created_at, u.started_at, u.ended_at, u.failed_node_id, u.failure_message, u.cancel_reason, u.labels, u.input, u.input_encoding,
  u.form, u.nodes_ended, u.items_total, u.current_nodes, u.output, u.output_encoding, encode(u.output_blob, 'hex') as output_blob, u.failure,
  (select b.size_bytes from baton.blobs b where b.namespace_id = u.namespace_id and b.sha256 = u.output_blob) as output_size,
  u.parent_run_id, u.parent_node_id, u.waiting_for, u.release`;

export async function readRun(sql: Sql, namespaceId: number | null, id: string): Promise<RunRow | null> {
  const [row] = await sql.unsafe(
    `select ${RUN_COLUMNS} from baton.runs u where u.id = $1 and ($2::integer is null or u.namespace_id = $2)`,
    [id, namespaceId],
    { prepare: true },
  );
  return row ? toRun(row) : null;
}

/** Runs by id; those that are not there are missing. */
export async function readRuns(sql: Sql, namespaceId: number | null, ids: readonly string[]): Promise<RunRow[]> {
  const rows = await sql.unsafe(
    `/* baton read runs */ select ${RUN_COLUMNS} from unnest($1::bigint[]) i(id) join baton.runs u on u.id = i.id where ($2::integer is null or u.namespace_id = $2)`,
    [numbers(ids), namespaceId],
    { prepare: true },
  );
  return rows.map(toRun);
}

/** The number of each run's revision now, by id. */
export async function readRevisions(sql: Sql, ids: readonly string[]): Promise<Map<string, number>> {
  const rows = await sql.unsafe(
    '/* baton read revisions */ select r.id, r.revision from unnest($1::bigint[]) i(id) join baton.runs r on r.id = i.id',
    [numbers(ids)],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.id as string, r.revision as number]));
}

/** What of a node a master keeps in memory while it advances the run. */
export interface NodeStanding {
  runId: string;
  nodeId: string;
  state: RunNodeState;
  taskId: string | null;
  childRunId: string | null;
  failure: Failure | null;
  itemsTotal: number | null;
}

/** How the nodes of these runs stand, by run and in their order. */
export async function readNodeStandings(sql: Sql, runIds: readonly string[]): Promise<Map<string, NodeStanding[]>> {
  const rows = await sql.unsafe(
    `/* baton node standings */ select n.run_id, n.node_id, n.state, n.task_id, n.child_run_id, case when n.state in ('failed', 'cancelled') then n.failure end as failure, n.items_total
     from baton.run_nodes n where n.run_id = any($1::bigint[]) order by n.run_id, n.ordinal`,
    [numbers(runIds)],
    { prepare: true },
  );
  const byRun = new Map<string, NodeStanding[]>(runIds.map((id) => [id, []]));
  for (const r of rows)
    byRun.get(r.run_id as string)!.push({
      runId: r.run_id as string,
      nodeId: r.node_id as string,
      state: r.state as RunNodeState,
      taskId: r.task_id as string | null,
      childRunId: r.child_run_id as string | null,
      failure: r.failure as Failure | null,
      itemsTotal: r.items_total as number | null,
    });
  return byRun;
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
  itemsTotal: number | null;
  itemsEnded: number | null;
  itemsFailed: number | null;
  childRunId: string | null;
  cached: boolean;
  skipReason: string | null;
  /** The revision of the run by which it changed last. */
  revision: number;
  /** Only when asked for. */
  output: Uint8Array | null;
  outputEncoding: Encoding | null;
  /** The blob that is the output; SHA-256 in hex. */
  outputBlob: { sha256: string; sizeBytes: number } | null;
}

/** The nodes of a run in their order; those that changed behind a revision of the run. A running node's attempts and worker are those of its lease, or of its end that no advance has seen yet. */
export async function readRunNodes(
  sql: Sql,
  runId: string,
  outputs: boolean,
  behindRevision = -1,
): Promise<RunNodeRow[]> {
  const rows = await sql.unsafe(
    `select n.node_id, n.state, n.task_id, n.execution, n.attempts + coalesce(l.attempt, y.attempt, w.attempt, case when n.state = 'running' then o.attempt end, 0) as attempts, k.name as worker,
            n.started_at, n.ended_at, n.output_hash, n.failure, n.items_total, n.items_ended, n.items_failed, n.child_run_id, n.cached, n.skip_reason, n.revision, o.output_encoding, ${outputs ? 'o.output' : 'null::bytea as output'},
            encode(o.output_blob, 'hex') as output_blob, b.size_bytes
     from baton.run_nodes n
     left join baton.outcomes o on o.task_id = n.task_id and n.state in ('running', 'succeeded')
     left join baton.leases l on l.task_id = n.task_id and n.state = 'running'
     left join baton.ready y on y.task_id = n.task_id and n.state = 'running'
     left join baton.waiting w on w.task_id = n.task_id and n.state = 'running'
     left join baton.sessions s on s.id = l.session_id
     left join baton.workers k on k.id = coalesce(s.worker_id, case when n.state = 'running' then o.worker_id end, n.worker_id)
     left join baton.blobs b on o.output_blob is not null and b.namespace_id = o.namespace_id and b.sha256 = o.output_blob
     where n.run_id = $1 and n.revision > $2 order by n.ordinal`,
    [runId, behindRevision],
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
    itemsTotal: r.items_total as number | null,
    itemsEnded: r.items_ended as number | null,
    itemsFailed: r.items_failed as number | null,
    childRunId: r.child_run_id as string | null,
    cached: r.cached as boolean,
    skipReason: r.skip_reason as string | null,
    revision: r.revision as number,
    output: r.output as Uint8Array | null,
    outputEncoding: r.output_encoding as Encoding | null,
    outputBlob: r.output_blob ? { sha256: r.output_blob as string, sizeBytes: Number(r.size_bytes ?? 0) } : null,
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

/** Open runs whose parent has ended: started by a step of it that was not written, or by one that died before it could end them. */
export async function readOrphans(
  sql: Sql,
  limit: number,
): Promise<{ id: string; namespaceId: number; parentRunId: string }[]> {
  const rows = await sql.unsafe(
    `/* baton read orphans */ select c.id, c.namespace_id, c.parent_run_id from baton.runs c join baton.runs p on p.id = c.parent_run_id
     where c.state in ('pending', 'running', 'waiting') and c.cancel_reason is null and p.state in ('succeeded', 'failed', 'cancelled')
     order by c.id limit $1`,
    [limit],
    { prepare: true },
  );
  return rows.map((r) => ({
    id: r.id as string,
    namespaceId: r.namespace_id as number,
    parentRunId: r.parent_run_id as string,
  }));
}

/**
 * Opens the next execution of an ended run: the named nodes are pending again. Of `whole` the items are forgotten; of the others those
 * that succeeded are kept. False when it was not in this revision any more.
 */
export async function reopenRun(
  sql: Sql,
  runId: string,
  revision: number,
  nodeIds: readonly string[],
  whole: readonly string[],
  counts: { succeeded: number; ended: number },
): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton retry run */
     with guard as (
       update baton.runs set revision = revision + 1, execution = execution + 1, state = 'running', ended_at = null, failed_node_id = null,
         failure_message = null, failure = null, cancel_reason = null, started_at = clock_timestamp(), output = null, output_blob = null,
         output_encoding = null, nodes_succeeded = $5, nodes_ended = $6
       where id = $1 and revision = $2 and state in ('succeeded', 'failed', 'cancelled') returning id, namespace_id, revision
     ), nodes as (
       update baton.run_nodes n set state = 'pending', task_id = null, output_hash = null, failure = null, started_at = null, ended_at = null,
         child_run_id = null, cached = false, skip_reason = null, revision = guard.revision, items_total = case when n.node_id = any($4::text[]) then null else n.items_total end,
         items_started = null, items_ended = null, items_failed = null
       from guard where n.run_id = guard.id and n.node_id = any($3::text[])
       returning n.run_id, n.ordinal, n.node_id
     ), forgotten as (
       delete from baton.run_items i using nodes n where i.run_id = n.run_id and i.ordinal = n.ordinal and n.node_id = any($4::text[])
     ), again as (
       update baton.run_items i set state = 'pending', failure = null, output_hash = null
       from nodes n where i.run_id = n.run_id and i.ordinal = n.ordinal and n.node_id <> all($4::text[]) and i.state in ('failed', 'cancelled')
     ), advanced as (
       insert into baton.advances (run_id) select id from guard
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array[namespace_id], array[9]::smallint[], array[0::bigint], array[id], array[0::smallint], array[0] from guard
     )
     select id from guard`,
    [runId, revision, texts(nodeIds), texts(whole), counts.succeeded, counts.ended],
  );
  return rows.length > 0;
}

export function toRun(r: Record<string, unknown>): RunRow {
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
    form: r.form as RunRow['form'],
    nodesEnded: r.nodes_ended as number,
    itemsTotal: r.items_total as number,
    currentNodes: r.current_nodes as string[] | null,
    output: r.output as Uint8Array | null,
    outputEncoding: r.output_encoding as Encoding | null,
    outputBlob: r.output_blob ? { sha256: r.output_blob as string, sizeBytes: Number(r.output_size ?? 0) } : null,
    failure: r.failure as Failure | null,
    parentRunId: r.parent_run_id as string | null,
    parentNodeId: r.parent_node_id as string | null,
    waitingFor: r.waiting_for as string[] | null,
    release: r.release as string | null,
  };
}

/** The name of a namespace that exists. */
export async function namespaceName(sql: Sql, namespaceId: number): Promise<string> {
  const [row] = await sql.unsafe('select name from baton.namespaces where id = $1', [namespaceId], { prepare: true });
  return row!.name as string;
}
