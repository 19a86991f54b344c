import type { ExecutorType, Failure, FailureType, Needs, RetryPolicy, TaskClass, TaskState } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';
import type { Encoding } from './new-task.ts';
import { TAGS, TASK_WITHOUT_PAYLOADS, type TaskRow, toTask } from './read-tasks.ts';

/** A failed or lost attempt. */
export interface FailureRow {
  at: Date;
  /** The same, exact: µs since the epoch, decimal. */
  atUs: string;
  taskId: string;
  epoch: number;
  attempt: number;
  kind: string;
  queue: string;
  worker: string;
  attemptState: 'failed' | 'lost';
  failure: Failure;
  retryDelayMs: number | null;
  taskState: TaskState;
}

/** Where a page of failures ended. */
export interface FailureKey {
  atUs: string;
  taskId: string;
  epoch: number;
}

export interface FailurePage {
  namespaceId: number;
  /** Of this worker or this task; null: of all. */
  worker: string | null;
  taskId: string | null;
  /** Any of these; empty: all. */
  types: readonly FailureType[];
  /** Not before, ms since the epoch; null: all that is kept. */
  sinceMs: number | null;
  after: FailureKey | null;
  limit: number;
}

const TYPE = `coalesce(a.failure ->> 'type', 'WORKER_CRASH')`;

/** Newest first: by time, and within a microsecond by task and epoch, so that no row is on two pages or none. */
const PAGE = `a.state in ('failed', 'lost')
    and a.ended_at >= coalesce(timestamptz 'epoch' + $3::double precision * interval '1 microsecond', '-infinity')
    and a.ended_at <= coalesce(timestamptz 'epoch' + $4::double precision * interval '1 microsecond', 'infinity')
    and ($4::double precision is null or a.ended_at < timestamptz 'epoch' + $4::double precision * interval '1 microsecond'
         or (a.task_id, a.epoch) > ($5::bigint, $6::integer))
    and ($7::text[] = '{}' or ${TYPE} = any($7::text[]))
  order by a.ended_at desc, a.task_id, a.epoch limit $8`;

const list = (name: string, page: string) => `/* baton ${name} */
with page as materialized (
  ${page}
)
select p.ended_at, (extract(epoch from p.ended_at) * 1000000)::bigint::text as at_us, p.task_id, p.epoch, p.attempt, r.kind, r.queue, p.worker,
  p.state as attempt_state, p.failure, p.retry_delay_ms,
  coalesce(o.state, case when l.task_id is not null then 'leased' when y.task_id is not null then 'ready' else w.reason end) as task_state
from page p
join baton.tasks t on t.id = p.task_id
join baton.routes r on r.id = t.route_id
left join baton.outcomes o on o.task_id = t.id
left join baton.leases l on l.task_id = t.id
left join baton.ready y on y.task_id = t.id
left join baton.waiting w on w.task_id = t.id
order by p.ended_at desc, p.task_id, p.epoch`;

/** All of a namespace, along time. Those of other namespaces are passed over: a namespace of few failures among others' many reads them. */
export const LIST_FAILURES = list(
  'list failures',
  `select a.*, w.name as worker from baton.attempts a cross join lateral (
     select w.name from baton.workers w where w.id = a.worker_id and w.namespace_id = $1 and $2::text is null limit 1
   ) w
   where ${PAGE}`,
);

export const LIST_FAILURES_OF_WORKER = list(
  'list failures of worker',
  `select a.*, w.name as worker from baton.workers w cross join lateral (
     select * from baton.attempts a where a.worker_id = w.id and ${PAGE}
   ) a where w.namespace_id = $1 and w.name = $2`,
);

export const LIST_FAILURES_OF_TASK = list(
  'list failures of task',
  `select a.*, w.name as worker from baton.attempts a join baton.workers w on w.id = a.worker_id and w.namespace_id = $1
   where a.task_id = $2::bigint and ${PAGE}`,
);

/** A page of failures. With a task, the worker is not asked for: filter by one of both. */
export async function listFailures(sql: Sql, page: FailurePage): Promise<FailureRow[]> {
  const statement = page.taskId ? LIST_FAILURES_OF_TASK : page.worker ? LIST_FAILURES_OF_WORKER : LIST_FAILURES;
  const rows = await sql.unsafe(
    statement,
    [
      page.namespaceId,
      page.taskId ?? page.worker,
      page.sinceMs === null ? null : page.sinceMs * 1_000,
      page.after === null ? null : Number(page.after.atUs),
      page.after?.taskId ?? null,
      page.after?.epoch ?? null,
      texts(page.types),
      page.limit,
    ],
    { prepare: true },
  );
  return rows.map((r) => ({
    at: r.ended_at as Date,
    atUs: r.at_us as string,
    taskId: r.task_id as string,
    epoch: r.epoch as number,
    attempt: r.attempt as number,
    kind: r.kind as string,
    queue: r.queue as string,
    worker: r.worker as string,
    attemptState: r.attempt_state as FailureRow['attemptState'],
    failure: (r.failure as Failure | null) ?? { type: 'WORKER_CRASH', message: '' },
    retryDelayMs: r.retry_delay_ms === null ? null : Number(r.retry_delay_ms),
    taskState: r.task_state as TaskState,
  }));
}

export interface FailureStatistics {
  failures: number;
  byType: { type: FailureType; count: number }[];
  /** The worst first, at most 100. */
  byWorker: { worker: string; count: number; machineMade: number }[];
  tasksAffected: number;
  tasksRecovered: number;
  tasksFailed: number;
  tasksOpen: number;
  workersAffected: number;
  breakersOpen: number;
}

/** Reads every failure of the window, and the end of every task that had one. */
export const FAILURE_STATISTICS = `/* baton failure statistics */
with failed as materialized (
  select a.task_id, w.name as worker, ${TYPE} as type
  from baton.attempts a cross join lateral (
    select w.name from baton.workers w where w.id = a.worker_id and w.namespace_id = $1 limit 1
  ) w
  where a.state in ('failed', 'lost') and a.ended_at > (select clock_timestamp() - $2::double precision * interval '1 ms')
), ends as materialized (
  select o.state from (select distinct task_id from failed) f
  left join lateral (select o.state from baton.outcomes o where o.task_id = f.task_id limit 1) o on true
), types as (
  select type, count(*)::integer as count from failed group by type
), workers as (
  select worker, count(*)::integer as count,
         (count(*) filter (where type in ('WORKER_CRASH', 'NETWORK_ERROR', 'GPU_ERROR')))::integer as machine_made
  from failed group by worker
)
select (select count(*)::integer from failed) as failures,
  (select coalesce(jsonb_agg(jsonb_build_object('type', type, 'count', count) order by count desc, type), '[]') from types) as by_type,
  (select coalesce(jsonb_agg(jsonb_build_object('worker', worker, 'count', count, 'machineMade', machine_made) order by count desc, worker), '[]')
   from (select * from workers order by count desc, worker limit 100) w) as by_worker,
  (select count(*)::integer from workers) as workers_affected,
  (select count(*)::integer from ends) as tasks_affected,
  (select count(*)::integer from ends where state = 'succeeded') as tasks_recovered,
  (select count(*)::integer from ends where state = 'failed') as tasks_failed,
  (select count(*)::integer from ends where state is null) as tasks_open,
  (select count(*)::integer from baton.breakers b join baton.workers w on w.id = b.worker_id
   where w.namespace_id = $1 and b.state <> 'closed') as breakers_open`;

export async function readFailureStatistics(
  sql: Sql,
  namespaceId: number,
  windowMs: number,
): Promise<FailureStatistics> {
  const [r] = await sql.unsafe(FAILURE_STATISTICS, [namespaceId, windowMs], { prepare: true });
  return {
    failures: r!.failures as number,
    byType: r!.by_type as FailureStatistics['byType'],
    byWorker: r!.by_worker as FailureStatistics['byWorker'],
    tasksAffected: r!.tasks_affected as number,
    tasksRecovered: r!.tasks_recovered as number,
    tasksFailed: r!.tasks_failed as number,
    tasksOpen: r!.tasks_open as number,
    workersAffected: r!.workers_affected as number,
    breakersOpen: r!.breakers_open as number,
  };
}

export interface DeadPage {
  namespaceId: number;
  queue: string | null;
  kind: string | null;
  types: readonly FailureType[];
  /** Also those that were sent again. */
  includeResent: boolean;
  /** Ids below this one; null: from the newest. */
  before: string | null;
  limit: number;
}

export interface DeadTaskRow {
  task: TaskRow;
  /** The newest task that sends it again. */
  resentAs: string | null;
}

/** Ids of clocks that are a minute apart: what sends a task again has a higher id, but for that. */
const ID_SLACK = 60_000 * 2 ** 22;

/**
 * Tasks that failed for good, newest first: an index range of `outcomes` for each route, as in the list of tasks. `+ 0` keeps the
 * look for what sends a task again on its own index.
 */
export const LIST_DEAD = `/* baton list dead */
with wanted as materialized (
  select r.id from baton.routes r
  where r.namespace_id = $1 and ($2::text is null or r.queue = $2) and ($3::text is null or r.kind = $3)
), page as materialized (
  select d.* from wanted w cross join lateral (
    select o.task_id, s.resent_as from baton.outcomes o cross join lateral (
      select max(x.id + 0) as resent_as from baton.tasks x where x.retry_of = o.task_id and x.id > o.task_id - ${ID_SLACK}
    ) s
    where o.route_id = w.id and o.state = 'failed' and o.task_id < $4
      and ($5::text[] = '{}' or o.failure ->> 'type' = any($5::text[]))
      and ($6::boolean or s.resent_as is null)
    order by o.task_id desc limit $7
  ) d
  order by d.task_id desc limit $7
)
select p.resent_as, ${TASK_WITHOUT_PAYLOADS.columns} from page p join baton.tasks t on t.id = p.task_id ${TASK_WITHOUT_PAYLOADS.joins}
order by t.id desc`;

export async function listDead(sql: Sql, page: DeadPage): Promise<DeadTaskRow[]> {
  const rows = await sql.unsafe(
    LIST_DEAD,
    [
      page.namespaceId,
      page.queue,
      page.kind,
      page.before ?? '9223372036854775807',
      texts(page.types),
      page.includeResent,
      page.limit,
    ],
    { prepare: true },
  );
  return rows.map((r) => ({ task: toTask(r), resentAs: r.resent_as as string | null }));
}

/** What a task asked for, to ask for it again. */
export interface TaskWish {
  id: string;
  /** Null: it has not ended. */
  ended: 'succeeded' | 'failed' | 'cancelled' | null;
  queue: string;
  kind: string;
  executor: ExecutorType;
  taskClass: TaskClass;
  /** Of the lane that it was submitted to: a retry that needed more memory has left no trace here. */
  tags: string[];
  needs: Needs | null;
  executorConfig: Record<string, unknown> | null;
  retry: Partial<RetryPolicy> | null;
  priority: number;
  maxAttempts: number;
  startToCloseMs: number;
  scheduleToStartMs: number | null;
  progressTimeoutMs: number | null;
  labels: Record<string, string> | null;
  encoding: Encoding;
  input: Uint8Array | null;
  /** SHA-256, hex. */
  inputBlob: string | null;
}

/** Whole tasks, with their inputs: for a few at once. Those not of this namespace are missing. */
export async function readWishes(
  sql: Sql,
  namespaceId: number,
  ids: readonly string[],
): Promise<Map<string, TaskWish>> {
  const rows = await sql.unsafe(
    `/* baton read wishes */
     select t.*, encode(t.input_blob, 'hex') as blob, r.queue, r.kind, n.executor, n.task_class, ${TAGS} as tags, n.needs, o.state as ended
     from unnest($2::bigint[]) i(id)
     join baton.tasks t on t.id = i.id
     join baton.lanes n on n.id = t.lane_id
     join baton.routes r on r.id = t.route_id
     left join baton.outcomes o on o.task_id = t.id
     where t.namespace_id = $1`,
    [namespaceId, numbers(ids)],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => [
      r.id as string,
      {
        id: r.id as string,
        ended: r.ended as TaskWish['ended'],
        queue: r.queue as string,
        kind: r.kind as string,
        executor: r.executor as ExecutorType,
        taskClass: r.task_class as TaskClass,
        tags: r.tags as string[],
        needs: r.needs as Needs | null,
        executorConfig: r.executor_config as TaskWish['executorConfig'],
        retry: r.retry as TaskWish['retry'],
        priority: r.priority as number,
        maxAttempts: r.max_attempts as number,
        startToCloseMs: Number(r.start_to_close_ms),
        scheduleToStartMs: r.schedule_to_start_ms === null ? null : Number(r.schedule_to_start_ms),
        progressTimeoutMs: r.progress_timeout_ms === null ? null : Number(r.progress_timeout_ms),
        labels: r.labels as TaskWish['labels'],
        encoding: r.input_encoding as Encoding,
        input: r.input as Uint8Array | null,
        inputBlob: r.blob as string | null,
      },
    ]),
  );
}
