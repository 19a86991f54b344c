import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { byteas, jsons, numbers, texts } from '../database/literals.ts';
import { HANDED_EVENTS, type Handed, handOver, type Takers, takersOf } from '../tasks/hand-over.ts';
import { type Encoding, INLINE_INPUT_BYTES } from '../tasks/new-task.ts';

/** A run of a durable function about to be stored, with the task that drives it. */
export interface NewFunctionRun {
  id: string;
  namespaceId: number;
  workflowName: string;
  workflowVersion: number;
  /** Version of the code that it is pinned to; '': none. */
  release: string;
  /** It is to be stored only while this is the newest version of the workflow. */
  mustBeNewest?: boolean;
  input: Uint8Array | null;
  encoding: Encoding;
  labels: Record<string, string> | null;
  idempotency: { key: string; bodyHash: Uint8Array; ttlMs: number } | null;
  parent: { runId: string; nodeId: string; item?: number | null } | null;
  driver: {
    taskId: string;
    routeId: number;
    laneId: number;
    priority: number;
    maxAttempts: number;
    startToCloseMs: number;
  };
}

/**
 * Stores runs with their driver tasks, ready, in one statement. A repeated batch, and a run whose idempotency key is taken, write nothing.
 * Nothing has to be advanced for a run to begin: its driver is a task like any other.
 *
 * Whoever remembers the newest version of a workflow says so: where there is a newer one, the run is not stored, and that is told. It saves
 * a look at the workflow before, 0.3 ms of a master and a round trip.
 */
const startStatement = (
  handing: boolean,
) => `/* baton ${handing ? 'start function runs handing' : 'start function runs'} */
with input as materialized (
  select * from unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::text[], $6::bytea[], $7::smallint[], $8::text[], $9::text[], $10::bytea[],
                       $11::double precision[], $12::bigint[], $13::text[], $14::bigint[], $15::integer[], $16::integer[], $17::smallint[], $18::smallint[], $19::bigint[],
                       $20::integer[], $21::boolean[]${handing ? ', $22::bigint[]' : ''})
    as i(id, namespace_id, name, version, release, input, encoding, labels, key, body_hash, ttl_ms, parent_run_id, parent_node_id, task_id, route_id, lane_id,
         priority, max_attempts, start_to_close_ms, parent_item, must_be_newest${handing ? ', session_id' : ''})
  order by id
), outdated as materialized (
  select i.id from input i
  where i.must_be_newest
    and i.version is distinct from (select max(w.version) from baton.workflows w where w.namespace_id = i.namespace_id and w.name = i.name)
    and not exists (select from baton.runs u where u.id = i.id)
), fit as materialized (
  select * from input where id <> all(array(select id from outdated)) order by id
), keyed as (
  insert into baton.idempotency (namespace_id, scope, key, body_hash, id, expires_at)
  select namespace_id, 'run:' || name, key, body_hash, id, clock_timestamp() + ttl_ms * interval '1 ms' from fit where key is not null
  order by namespace_id, name, key
  on conflict do nothing returning id
), stored as (
  insert into baton.runs (id, namespace_id, workflow_name, workflow_version, nodes_total, state, started_at, input, input_encoding, labels, idempotency_key,
                          form, release, driver_task_id, parent_run_id, parent_node_id, parent_item)
  select id, namespace_id, name, version, 0, 'running', clock_timestamp(), input, encoding, labels::jsonb, key, 'function', nullif(release, ''), task_id,
         parent_run_id, parent_node_id, parent_item
  from fit where key is null or id in (select id from keyed)
  on conflict (id) do nothing returning id
), driver as (
  insert into baton.tasks (id, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input)
  select i.task_id, i.id, i.start_to_close_ms, i.namespace_id, i.route_id, i.lane_id, i.priority, i.max_attempts, i.encoding, i.input
  from input i where i.id = any(array(select id from stored))
  returning id, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input
), ${handing ? `${handOver('driver', 'task_id')}, ` : ''}to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
  select id, id, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding,
         case when octet_length(input) <= ${INLINE_INPUT_BYTES} then input end
  from driver${handing ? ' where id <> all(array(select id from handed))' : ''}
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(type), array_agg(task_id), array_agg(run_id), array_agg(attempt), array_agg(worker_id)
  from (select namespace_id, 9::smallint as type, 0::bigint as task_id, run_id, 0::smallint as attempt, 0 as worker_id from driver
        union all select namespace_id, 1::smallint, id, run_id, 0::smallint, 0 from driver${
          handing
            ? `
        union all ${HANDED_EVENTS}`
            : ''
        }) e
  having count(*) > 0
)
select id, true as stored, null::bigint as session_id from stored
${handing ? 'union all select run_id, true, session_id from handed' : ''}
union all select id, false, null from outdated`;

export const START_FUNCTION_RUNS = startStatement(false);
/** The same, where sessions wait for some of the drivers: see `handOver`. */
export const START_FUNCTION_RUNS_HANDING = startStatement(true);

/**
 * @param takers of drivers that may start at once, in the order of the runs; null, and null for a run: nobody waits
 * @returns the runs that were stored now, those whose workflow has a newer version than the one that must be the newest, and which
 *   sessions were given drivers (by the driver's id)
 */
export async function startFunctionRuns(
  sql: Sql,
  batch: readonly NewFunctionRun[],
  takers: Takers | null = null,
): Promise<{ stored: Set<string>; outdated: Set<string>; handed: Handed }> {
  const isHanding = takers?.some((taker) => taker !== null) ?? false;
  const rows = await sql.unsafe(
    isHanding ? START_FUNCTION_RUNS_HANDING : START_FUNCTION_RUNS,
    [
      numbers(batch.map((r) => r.id)),
      numbers(batch.map((r) => r.namespaceId)),
      texts(batch.map((r) => r.workflowName)),
      numbers(batch.map((r) => r.workflowVersion)),
      texts(batch.map((r) => r.release)),
      byteas(batch.map((r) => r.input)),
      numbers(batch.map((r) => r.encoding)),
      jsons(batch.map((r) => r.labels)),
      texts(batch.map((r) => r.idempotency?.key ?? null)),
      byteas(batch.map((r) => r.idempotency?.bodyHash ?? null)),
      numbers(batch.map((r) => r.idempotency?.ttlMs ?? null)),
      numbers(batch.map((r) => r.parent?.runId ?? null)),
      texts(batch.map((r) => r.parent?.nodeId ?? null)),
      numbers(batch.map((r) => r.driver.taskId)),
      numbers(batch.map((r) => r.driver.routeId)),
      numbers(batch.map((r) => r.driver.laneId)),
      numbers(batch.map((r) => r.driver.priority)),
      numbers(batch.map((r) => r.driver.maxAttempts)),
      numbers(batch.map((r) => r.driver.startToCloseMs)),
      numbers(batch.map((r) => r.parent?.item ?? null)),
      `{${batch.map((r) => (r.mustBeNewest ? 't' : 'f')).join(',')}}`,
      ...(isHanding ? [takersOf(takers!)] : []),
    ],
    { prepare: true },
  );
  const idsOf = (stored: boolean) => new Set(rows.filter((r) => r.stored === stored).map((r) => r.id as string));
  const session = new Map(
    rows.filter((r) => r.session_id !== null).map((r) => [r.id as string, r.session_id as string]),
  );
  const handed = batch.flatMap(({ id, driver }) =>
    session.has(id) ? [[driver.taskId, session.get(id)!] as const] : [],
  );
  return { stored: idsOf(true), outdated: idsOf(false), handed: new Map(handed) };
}

/** What a run had made and not waited for to the end. */
export interface OpenWork {
  taskIds: string[];
  runIds: string[];
}

export interface EndedFunction extends OpenWork {
  runId: string;
  namespaceId: number;
  workflowName: string;
  state: 'succeeded' | 'failed' | 'cancelled';
  parentRunId: string | null;
}

const OPEN_WORK = `(select jsonb_agg(jsonb_build_array(j.kind, j.ref_id::text)) from baton.journal j
  where j.run_id = u.id and j.position is null and j.kind in ('task', 'child') and j.ref_id is not null) as open_work`;

/** Ends the runs whose driver has ended, as it did, with the advances that said so; tells their parents. */
export const END_FUNCTIONS = `/* baton end functions */
with run as materialized (
  select u.id, u.namespace_id, u.driver_task_id, u.parent_run_id from baton.runs u
  where u.id = any($1::bigint[]) and u.form = 'function' and u.state in ('pending', 'running', 'waiting') order by u.id for update
), ended as materialized (
  select run.*, o.state, o.ended_at, o.output, o.output_encoding, o.output_blob, o.failure, o.cancel_reason, c.total, c.succeeded
  from run cross join lateral (select * from baton.outcomes o where o.task_id = run.driver_task_id limit 1) o
  cross join lateral (
    select count(*)::integer as total, (count(*) filter (where j.position is not null and j.failure is null))::integer as succeeded
    from baton.journal j where j.run_id = run.id
  ) c
), closed as (
  update baton.runs u set revision = u.revision + 1, state = e.state, ended_at = e.ended_at, output = e.output, output_encoding = e.output_encoding,
    output_blob = e.output_blob, failure = e.failure, failure_message = e.failure ->> 'message', cancel_reason = coalesce(u.cancel_reason, e.cancel_reason),
    nodes_total = e.total, nodes_succeeded = e.succeeded, nodes_ended = e.total, waiting_for = null
  from ended e where u.id = e.id returning u.id, u.workflow_name
), answered as (
  delete from baton.advances a using ended e where a.id = any($2::bigint[]) and a.run_id = e.id
), told as (
  insert into baton.advances (run_id, child_run_id) select parent_run_id, id from ended where parent_run_id is not null
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(namespace_id), array_agg(11::smallint), array_agg(0::bigint), array_agg(id), array_agg(0::smallint), array_agg(0)
  from ended having count(*) > 0
)
select u.id, u.namespace_id, u.state, u.parent_run_id, c.workflow_name, ${OPEN_WORK} from ended u join closed c on c.id = u.id`;

export async function endFunctions(
  sql: Sql,
  runIds: readonly string[],
  advanceIds: readonly string[],
): Promise<EndedFunction[]> {
  const rows = await sql.unsafe(END_FUNCTIONS, [numbers(runIds), numbers(advanceIds)], { prepare: true });
  return rows.map((r) => ({
    runId: r.id as string,
    namespaceId: r.namespace_id as number,
    workflowName: r.workflow_name as string,
    state: r.state as EndedFunction['state'],
    parentRunId: r.parent_run_id as string | null,
    ...toOpenWork(r.open_work),
  }));
}

export interface FunctionStanding extends OpenWork {
  runId: string;
  namespaceId: number;
  isOpen: boolean;
  cancelReason: string | null;
  driverTaskId: string;
}

/** How function runs stand that have something to do and have not ended. */
export async function readFunctions(sql: Sql, runIds: readonly string[]): Promise<FunctionStanding[]> {
  const rows = await sql.unsafe(
    `/* baton read functions */ select u.id, u.namespace_id, u.state in ('pending', 'running', 'waiting') as is_open, u.cancel_reason, u.driver_task_id,
            case when u.cancel_reason is not null then ${OPEN_WORK.replace(' as open_work', '')} end as open_work
     from unnest($1::bigint[]) i(id) join baton.runs u on u.id = i.id`,
    [numbers(runIds)],
    { prepare: true },
  );
  return rows.map((r) => ({
    runId: r.id as string,
    namespaceId: r.namespace_id as number,
    isOpen: r.is_open as boolean,
    cancelReason: r.cancel_reason as string | null,
    driverTaskId: r.driver_task_id as string,
    ...toOpenWork(r.open_work),
  }));
}

/** What runs of all forms know of themselves beside their nodes. */
export interface RunFacts {
  form: 'graph' | 'function';
  release: string | null;
  parentRunId: string | null;
  parentNodeId: string | null;
  waitingFor: string[];
  driverTaskId: string | null;
  failure: Failure | null;
  output: Uint8Array | null;
  outputEncoding: Encoding | null;
  /** Of a function: entries of its journal so far, those that are over, and those that gave something. */
  entries: number;
  resolved: number;
  succeeded: number;
}

export async function readRunFacts(sql: Sql, runId: string): Promise<RunFacts | null> {
  const [r] = await sql.unsafe(
    `/* baton run facts */ select u.form, u.release, u.parent_run_id, u.parent_node_id, to_jsonb(u.waiting_for) as waiting_for, u.driver_task_id, u.failure,
            u.output, u.output_encoding, c.entries, c.resolved, c.succeeded
     from baton.runs u cross join lateral (
       select count(*)::integer as entries, (count(*) filter (where j.position is not null))::integer as resolved, (count(*) filter (where j.position is not null and j.failure is null))::integer as succeeded
       from baton.journal j where u.form = 'function' and j.run_id = u.id
     ) c where u.id = $1`,
    [runId],
    { prepare: true },
  );
  return r
    ? {
        form: r.form as RunFacts['form'],
        release: r.release as string | null,
        parentRunId: r.parent_run_id as string | null,
        parentNodeId: r.parent_node_id as string | null,
        waitingFor: (r.waiting_for as string[] | null) ?? [],
        driverTaskId: r.driver_task_id as string | null,
        failure: r.failure as Failure | null,
        output: r.output as Uint8Array | null,
        outputEncoding: r.output_encoding as Encoding | null,
        entries: r.entries as number,
        resolved: r.resolved as number,
        succeeded: r.succeeded as number,
      }
    : null;
}

/** A journal as a retry looks at it, by number, without outputs. */
export interface RetriedEntry {
  number: number;
  kind: string;
  name: string;
  /** 0: not resolved. */
  position: number;
  afterPosition: number;
  failed: boolean;
}

export async function readRetriedEntries(sql: Sql, runId: string): Promise<RetriedEntry[]> {
  const rows = await sql.unsafe(
    `select number, kind, name, coalesce(position, 0) as position, after_position, position is not null and failure is not null as failed
     from baton.journal where run_id = $1 order by number`,
    [runId],
    { prepare: true },
  );
  return rows.map((r) => ({
    number: r.number as number,
    kind: r.kind as string,
    name: r.name as string,
    position: r.position as number,
    afterPosition: r.after_position as number,
    failed: r.failed as boolean,
  }));
}

/**
 * Opens the next execution of an ended function run: drops these entries of its journal (the signals that they took are there again), and
 * makes a new driver. Its first lease has epoch 2, so that no worker takes the journal for empty. False: it was not in this revision any more.
 */
export async function reopenFunction(
  sql: Sql,
  runId: string,
  revision: number,
  dropped: readonly number[],
  driver: NewFunctionRun['driver'],
): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton retry function */
     with guard as (
       update baton.runs set revision = revision + 1, execution = execution + 1, state = 'running', ended_at = null, failed_node_id = null,
         failure_message = null, failure = null, cancel_reason = null, output = null, output_blob = null, waiting_for = null, started_at = clock_timestamp(), driver_task_id = $4
       where id = $1 and revision = $2 and state in ('failed', 'cancelled') and form = 'function' returning id, namespace_id, input, input_encoding
     ), gone as (
       delete from baton.journal j using guard where j.run_id = guard.id and j.number = any($3::integer[])
     ), freed as (
       update baton.run_signals s set taken_by = null from guard where s.run_id = guard.id and s.taken_by = any($3::integer[])
     ), driver as (
       insert into baton.tasks (id, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input)
       select $4, id, $9, namespace_id, $5, $6, $7, $8, input_encoding, input from guard
       returning id, run_id, start_to_close_ms, namespace_id, lane_id, priority, max_attempts, input_encoding
     ), to_ready as (
       insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, epoch, priority, max_attempts, input_encoding)
       select id, id, run_id, start_to_close_ms, lane_id, 1, priority, max_attempts, input_encoding from driver
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array[namespace_id, namespace_id], array[9, 1]::smallint[], array[0::bigint, id], array[run_id, run_id], array[0, 0]::smallint[], array[0, 0] from driver
     )
     select id from guard`,
    [
      runId,
      revision,
      numbers(dropped),
      driver.taskId,
      driver.routeId,
      driver.laneId,
      driver.priority,
      driver.maxAttempts,
      driver.startToCloseMs,
    ],
  );
  return rows.length > 0;
}

export function toOpenWork(value: unknown): OpenWork {
  const open = (value ?? []) as [string, string][];
  return {
    taskIds: open.filter(([kind]) => kind === 'task').map(([, id]) => id),
    runIds: open.filter(([kind]) => kind === 'child').map(([, id]) => id),
  };
}
