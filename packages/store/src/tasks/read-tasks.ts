import type { ExecutorType, Failure, Needs, RetryPolicy, TaskClass, TaskState } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';
import { NEEDS_TAG } from './lanes.ts';
import type { Encoding } from './new-task.ts';

/** A task as it is read, wherever its row is. */
export interface TaskRow {
  id: string;
  namespaceId: number;
  queue: string;
  kind: string;
  executor: ExecutorType;
  taskClass: TaskClass;
  tags: string[];
  /** Resources and requirements, of its lane. */
  needs: Needs | null;
  state: TaskState;
  attempt: number;
  maxAttempts: number;
  priority: number;
  createdAt: Date;
  dueAt: Date | null;
  grantedAt: Date | null;
  startedAt: Date | null;
  endedAt: Date | null;
  worker: string | null;
  executorConfig: Record<string, unknown> | null;
  retry: Partial<RetryPolicy> | null;
  startToCloseMs: number;
  failure: Failure | null;
  cancelReason: string | null;
  runId: string | null;
  nodeId: string | null;
  idempotencyKey: string | null;
  labels: Record<string, string> | null;
  inputEncoding: Encoding;
  /** Only when asked for. */
  input: Uint8Array | null;
  outputEncoding: Encoding | null;
  output: Uint8Array | null;
  outputHash: string | null;
  scheduleToStartMs: number | null;
  progressTimeoutMs: number | null;
  retryOf: string | null;
  inputBlob: { sha256: string; sizeBytes: number } | null;
  outputBlob: { sha256: string; sizeBytes: number } | null;
  /** What the running attempt said last. */
  progress: { fraction: number | null; message: string | null; at: Date } | null;
}

const PAYLOADS = `t.input, o.output, coalesce(encode(o.output_blob, 'hex'), encode(sha256(o.output), 'hex')) as output_hash,
  encode(t.input_blob, 'hex') as input_blob, encode(o.output_blob, 'hex') as output_blob,
  (select size_bytes from baton.blobs b where b.namespace_id = t.namespace_id and b.sha256 = t.input_blob) as input_size,
  (select size_bytes from baton.blobs b where b.namespace_id = t.namespace_id and b.sha256 = o.output_blob) as output_size`;

/** Without inputs: what is read of many ended tasks at once. */
const OUTPUTS = `null::bytea as input, o.output, coalesce(encode(o.output_blob, 'hex'), encode(sha256(o.output), 'hex')) as output_hash,
  null as input_blob, encode(o.output_blob, 'hex') as output_blob,
  (select size_bytes from baton.blobs b where b.namespace_id = t.namespace_id and b.sha256 = o.output_blob) as output_size`;

const NO_PAYLOADS = `null::bytea as input, null::bytea as output, null as output_hash, null as input_blob, null as output_blob`;

/** Of a lane n: its tags without the one that stands for its needs. */
export const TAGS = `case when n.needs is null then to_jsonb(n.tags)
    else (select coalesce(jsonb_agg(x.tag order by x.tag), '[]') from unnest(n.tags) x(tag) where x.tag not like '${NEEDS_TAG}%') end`;

const columns = (payloads: string) => `
  t.id, t.namespace_id, r.queue, r.kind, n.executor, n.task_class, ${TAGS} as tags, n.needs, t.max_attempts, t.priority, t.created_at,
  t.executor_config, t.retry, t.start_to_close_ms, t.run_id, t.node_id, t.idempotency_key, t.labels, t.input_encoding,
  t.schedule_to_start_ms, t.progress_timeout_ms, t.retry_of, g.sign_at, g.fraction, g.message,
  coalesce(o.state, case when l.task_id is not null then 'leased' when y.task_id is not null then 'ready' else w.reason end) as state,
  coalesce(o.attempt, l.attempt, y.attempt, w.attempt, 0)::integer as attempt,
  w.due_at, coalesce(l.granted_at, a.granted_at) as granted_at, coalesce(l.started_at, a.started_at) as started_at, o.ended_at, k.name as worker,
  coalesce(o.failure, a.failure) as failure, coalesce(o.cancel_reason, l.cancel_reason) as cancel_reason, o.output_encoding,
  ${payloads}`;

const JOINS = `
  join baton.routes r on r.id = t.route_id
  join baton.lanes n on n.id = t.lane_id
  left join baton.outcomes o on o.task_id = t.id
  left join baton.leases l on l.task_id = t.id
  left join baton.ready y on y.task_id = t.id
  left join baton.waiting w on w.task_id = t.id
  left join lateral (select * from baton.attempts a where a.task_id = t.id order by a.epoch desc limit 1) a on true
  left join baton.progress g on g.task_id = l.task_id and g.epoch = l.epoch
  left join baton.sessions s on s.id = l.session_id
  left join baton.workers k on k.id = coalesce(s.worker_id, o.worker_id, a.worker_id)`;

export const GET_TASK = `/* baton get task */ select ${columns(PAYLOADS)} from baton.tasks t ${JOINS} where t.id = $1 and t.namespace_id = $2`;

/** One task without payloads, as the rest of a statement joins it. */
export const TASK_WITHOUT_PAYLOADS = { columns: columns(NO_PAYLOADS), joins: JOINS };

/** One task with its payloads; null if there is none in this namespace. */
export async function readTask(sql: Sql, namespaceId: number, id: string): Promise<TaskRow | null> {
  const [row] = await sql.unsafe(GET_TASK, [id, namespaceId], { prepare: true });
  return row ? toTask(row) : null;
}

export interface AttemptRow {
  attempt: number;
  epoch: number;
  state: 'running' | 'succeeded' | 'failed' | 'cancelled' | 'lost' | 'returned';
  worker: string;
  sessionId: string;
  grantedAt: Date;
  startedAt: Date | null;
  endedAt: Date | null;
  failure: Failure | null;
  retryDelayMs: number | null;
}

/** Every lease of a task, the current one last. */
export async function readAttempts(sql: Sql, taskId: string): Promise<AttemptRow[]> {
  const rows = await sql.unsafe(
    `/* baton attempts */
     select a.attempt, a.epoch, a.state, w.name as worker, a.session_id, a.granted_at, a.started_at, a.ended_at, a.failure, a.retry_delay_ms
     from baton.attempts a join baton.workers w on w.id = a.worker_id where a.task_id = $1
     union all
     select l.attempt, l.epoch, 'running', w.name, l.session_id, l.granted_at, l.started_at, null, null, null
     from baton.leases l join baton.sessions s on s.id = l.session_id join baton.workers w on w.id = s.worker_id where l.task_id = $1
     order by epoch`,
    [taskId],
    { prepare: true },
  );
  return rows.map((r) => ({
    attempt: r.attempt as number,
    epoch: r.epoch as number,
    state: r.state as AttemptRow['state'],
    worker: r.worker as string,
    sessionId: r.session_id as string,
    grantedAt: r.granted_at as Date,
    startedAt: r.started_at as Date | null,
    endedAt: r.ended_at as Date | null,
    failure: r.failure as Failure | null,
    retryDelayMs: r.retry_delay_ms === null ? null : Number(r.retry_delay_ms),
  }));
}

export interface TaskPage {
  namespaceId: number;
  states: readonly TaskState[];
  queue: string | null;
  kind: string | null;
  /** Ids below this one; null: from the newest. */
  before: string | null;
  limit: number;
}

/**
 * A page of tasks, newest first. Live states come from the small tables, ends from `outcomes` by (route, state, id): one index
 * range for each route and state, at most `limit` rows from each. `tasks` is read for the page alone. What is not asked for is not
 * opened: else every page read all of `waiting` to find no reason that fits (100 000 rows: 20 ms, now 2).
 */
export const LIST_TASKS = `/* baton list tasks */
with wanted as materialized (
  select r.id from baton.routes r
  where r.namespace_id = $1 and ($2::text is null or r.queue = $2) and ($3::text is null or r.kind = $3)
), lanes as materialized (
  select l.id from baton.lanes l join wanted w on w.id = l.route_id
), page as materialized (
  (select task_id from baton.ready y where 'ready' = any($4::text[]) and y.task_id < $5 and y.lane_id in (select id from lanes)
   order by task_id desc limit $6)
  union all
  (select task_id from baton.leases y where 'leased' = any($4::text[]) and y.task_id < $5 and y.lane_id in (select id from lanes)
   order by task_id desc limit $6)
  union all
  (select task_id from baton.waiting y
   where $4::text[] && '{scheduled,backoff,blocked}' and y.reason = any($4::text[]) and y.task_id < $5 and y.lane_id in (select id from lanes)
   order by task_id desc limit $6)
  union all
  (select o.task_id from wanted w cross join (select state from unnest($4::text[]) s(state) where state in ('succeeded', 'failed', 'cancelled')) s
   cross join lateral
     (select task_id from baton.outcomes o where o.route_id = w.id and o.state = s.state and o.task_id < $5 order by o.task_id desc limit $6) o
   order by o.task_id desc limit $6)
  order by task_id desc limit $6
)
select ${columns(NO_PAYLOADS)} from page p join baton.tasks t on t.id = p.task_id ${JOINS} order by t.id desc`;

export async function listTasks(sql: Sql, page: TaskPage): Promise<TaskRow[]> {
  const rows = await sql.unsafe(
    LIST_TASKS,
    [page.namespaceId, page.queue, page.kind, texts(page.states), page.before ?? '9223372036854775807', page.limit],
    { prepare: true },
  );
  // A task may move between the tables while the page is read; the statement's snapshot shows it once, in one place.
  return rows.map(toTask);
}

/**
 * Ended tasks with their outputs, without their inputs, in the order given: from the first on as many as have about `maxBytes`
 * together, at least one. Sizes are summed without reading the outputs. Those that do not exist (any more) are passed over. Ends are
 * looked up: a join, planned while the tables were small, would walk over all that has ended.
 */
export const READ_ENDED = `/* baton read ended */
with wanted as materialized (
  select id, n from (
    select e.id, e.n, sum(e.size) over (order by e.n) - e.size as before from (
      select i.id, i.n, coalesce(length(o.output), 0) + coalesce(pg_column_size(o.failure), 0) + 500 as size
      from unnest($1::bigint[]) with ordinality i(id, n) cross join lateral (
        select o.output, o.failure from baton.outcomes o where o.task_id = i.id and o.namespace_id = $2 limit 1
      ) o
    ) e
  ) s where before < $3
)
select ${columns(OUTPUTS)} from wanted p join baton.tasks t on t.id = p.id ${JOINS} order by p.n`;

export async function readEnded(
  sql: Sql,
  namespaceId: number,
  taskIds: readonly string[],
  maxBytes: number,
): Promise<TaskRow[]> {
  const rows = await sql.unsafe(READ_ENDED, [numbers(taskIds), namespaceId, maxBytes], { prepare: true });
  return rows.map(toTask);
}

/** The ends among these tasks: state only. For waiters. */
export async function endsOf(sql: Sql, taskIds: readonly string[]): Promise<Set<string>> {
  const rows = await sql.unsafe(
    `select o.task_id from unnest($1::bigint[]) i(id)
     cross join lateral (select o.task_id from baton.outcomes o where o.task_id = i.id limit 1) o`,
    [numbers(taskIds)],
    { prepare: true },
  );
  return new Set(rows.map((r) => r.task_id as string));
}

export function toTask(r: Record<string, unknown>): TaskRow {
  return {
    id: r.id as string,
    namespaceId: r.namespace_id as number,
    queue: r.queue as string,
    kind: r.kind as string,
    executor: r.executor as ExecutorType,
    taskClass: r.task_class as TaskClass,
    tags: r.tags as string[],
    needs: r.needs as Needs | null,
    state: r.state as TaskState,
    attempt: r.attempt as number,
    maxAttempts: r.max_attempts as number,
    priority: r.priority as number,
    createdAt: r.created_at as Date,
    dueAt: r.due_at as Date | null,
    grantedAt: r.granted_at as Date | null,
    startedAt: r.started_at as Date | null,
    endedAt: r.ended_at as Date | null,
    worker: r.worker as string | null,
    executorConfig: r.executor_config as Record<string, unknown> | null,
    retry: r.retry as Partial<RetryPolicy> | null,
    startToCloseMs: Number(r.start_to_close_ms),
    failure: r.failure as Failure | null,
    cancelReason: r.cancel_reason as string | null,
    runId: r.run_id as string | null,
    nodeId: r.node_id as string | null,
    idempotencyKey: r.idempotency_key as string | null,
    labels: r.labels as Record<string, string> | null,
    inputEncoding: r.input_encoding as Encoding,
    input: r.input as Uint8Array | null,
    outputEncoding: r.output_encoding as Encoding | null,
    output: r.output as Uint8Array | null,
    outputHash: r.output_hash as string | null,
    scheduleToStartMs: r.schedule_to_start_ms === null ? null : Number(r.schedule_to_start_ms),
    progressTimeoutMs: r.progress_timeout_ms === null ? null : Number(r.progress_timeout_ms),
    retryOf: r.retry_of as string | null,
    inputBlob: r.input_blob ? { sha256: r.input_blob as string, sizeBytes: Number(r.input_size) } : null,
    outputBlob: r.output_blob ? { sha256: r.output_blob as string, sizeBytes: Number(r.output_size) } : null,
    progress: r.sign_at
      ? { fraction: r.fraction as number | null, message: r.message as string | null, at: r.sign_at as Date }
      : null,
  };
}
