import { fromStoredForm } from '@baton/domain';
import postgres from 'postgres';
import type {
  AttemptRow,
  BreakerChange,
  CheckpointRow,
  DatabaseDump,
  DeviceLeaseRow,
  IdempotencyRow,
  JournalWrite,
  LaneRow,
  LeaseRow,
  LogEvent,
  OutcomeRow,
  PlaceRow,
  RunNodeRow,
  RunRow,
  SessionRow,
  TaskRow,
  WaitingRow,
  WorkerRow,
  WorkflowRow,
} from './database-dump.ts';
import { DEFAULT_HISTORY_SETTINGS, type History, type HistorySettings } from './history.ts';

/** The connection was lost in the middle: what was read is of two moments. Read again. */
export class TornHistoryError extends Error {
  override readonly name = 'TornHistoryError';
}

/** The database holds no Baton. */
export class NoHistoryError extends Error {
  override readonly name = 'NoHistoryError';
}

/** Rows that travel at once. */
const PAGE_ROWS = 5_000;

/** A time as ms since the epoch; a double holds it to a quarter of a microsecond. */
const ms = (column: string) => `(extract(epoch from ${column}) * 1000)::double precision`;

/**
 * Reads what a history needs from the schema `baton`, all in one snapshot, with a connection of its own that may only read.
 * Tables that this version of the schema lacks are left out. Measured: 100 000 tasks with 200 000 attempts and 600 000 events in
 * 2.3 s and 0.4 GB.
 *
 * @throws NoHistoryError, TornHistoryError, and what Postgres says
 */
export async function readDatabase(databaseUrl: string): Promise<DatabaseDump> {
  const sql = postgres(databaseUrl, {
    max: 1,
    fetch_types: false,
    prepare: false,
    idle_timeout: 0,
    max_lifetime: null,
    onnotice: () => {},
    connection: { application_name: 'baton history', TimeZone: 'UTC', statement_timeout: 600_000 },
  });
  try {
    return await readAll(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** A history of which only the database was recorded; `settings` go over the defaults. */
export async function readHistory(databaseUrl: string, settings: Partial<HistorySettings> = {}): Promise<History> {
  return {
    settings: { ...DEFAULT_HISTORY_SETTINGS, ...settings },
    database: await readDatabase(databaseUrl),
    operations: null,
    calls: null,
    effects: null,
    watchers: null,
    faults: null,
  };
}

async function readAll(sql: postgres.Sql): Promise<DatabaseDump> {
  const one = async <T>(query: string): Promise<T> => (await sql.unsafe(query))[0] as T;
  const has = async (relation: string): Promise<boolean> =>
    (await one<{ there: boolean }>(`select to_regclass('baton.${relation}') is not null as there`)).there;
  const snapshot = async (): Promise<string> =>
    (await one<{ snapshot: string }>('select pg_current_snapshot()::text || pg_backend_pid() as snapshot')).snapshot;
  const all = async <Row, T>(query: string, make: (row: Row) => T): Promise<T[]> => {
    const made: T[] = [];
    for await (const rows of sql.unsafe(query).cursor(PAGE_ROWS)) for (const row of rows) made.push(make(row as Row));
    return made;
  };

  if (!(await has('tasks'))) throw new NoHistoryError('there is no schema baton with tasks in this database');
  // One connection, so the transaction holds for all that follows; nothing is written in it.
  await sql.unsafe('begin isolation level repeatable read read only');
  const begun = await snapshot();
  const { at: takenAtMs } = await one<{ at: number }>(`select ${ms('clock_timestamp()')} as at`);
  const activity = await one<DatabaseDump['activity']>(
    `select count(*) filter (where state = 'active' and query_start < clock_timestamp() - interval '1 s')::integer as active,
            count(*) filter (where state like 'idle in transaction%')::integer as "idleInTransaction"
     from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
  );
  const texts = new Map<string, string>();
  /** The same text once in memory: names repeat in every row. */
  const shared = (text: string): string => {
    const known = texts.get(text);
    if (known === undefined) texts.set(text, text);
    return known ?? text;
  };

  const lanes = await all<LaneRow, LaneRow>(
    `select l.id, n.name as namespace, r.queue, r.kind, l.executor, l.task_class as "taskClass", array_to_json(l.tags) as tags
     from baton.lanes l join baton.routes r on r.id = l.route_id join baton.namespaces n on n.id = l.namespace_id order by l.id`,
    (row) => row,
  );
  const hasItems = await has('run_items');
  const tasks = await all<TaskRow, TaskRow>(
    `select t.id, n.name as namespace, r.kind, t.lane_id as "laneId", ${ms('t.created_at')} as "createdAtMs", ${ms('t.due_at')} as "dueAtMs",
            t.run_id as "runId", t.node_id as "nodeId", ${hasItems ? 't.item' : 'null::integer'} as item, t.retry_of as "retryOf", t.max_attempts as "maxAttempts", t.retry,
            t.idempotency_key as key, t.labels ->> 'mark' as mark
     from baton.tasks t join baton.routes r on r.id = t.route_id join baton.namespaces n on n.id = t.namespace_id order by t.id`,
    (row) => ({ ...row, namespace: shared(row.namespace), kind: shared(row.kind) }),
  );
  const attempts = await all<AttemptRow, AttemptRow>(
    `select task_id as "taskId", epoch, attempt, state, session_id as "sessionId", worker_id as "workerId", ${ms('granted_at')} as "grantedAtMs",
            ${ms('started_at')} as "startedAtMs", ${ms('ended_at')} as "endedAtMs", retry_delay_ms::double precision as "retryDelayMs", failure
     from baton.attempts order by task_id, epoch`,
    (row) => ({ ...row, sessionId: shared(row.sessionId), state: shared(row.state) as AttemptRow['state'] }),
  );
  const { there: blobs } = await one<{ there: boolean }>(
    `select exists (select from pg_attribute where attrelid = 'baton.outcomes'::regclass and attname = 'output_blob') as there`,
  );
  const outcomes = await all<OutcomeRow, OutcomeRow>(
    `select task_id as "taskId", state, ${ms('ended_at')} as "endedAtMs", epoch, attempt,
            encode(${blobs ? 'coalesce(output_blob, sha256(output))' : 'sha256(output)'}, 'hex') as "outputSha256"
     from baton.outcomes order by task_id`,
    (row) => ({
      ...row,
      state: shared(row.state) as OutcomeRow['state'],
      outputSha256: row.outputSha256 === null ? null : shared(row.outputSha256),
    }),
  );
  const ready = await all<PlaceRow, PlaceRow>(
    'select task_id as "taskId", epoch, attempt from baton.ready order by task_id',
    (row) => row,
  );
  const waiting = await all<WaitingRow, WaitingRow>(
    `select task_id as "taskId", epoch, attempt, reason, ${ms('due_at')} as "dueAtMs" from baton.waiting order by task_id`,
    (row) => row,
  );
  const leases = await all<LeaseRow, LeaseRow>(
    `select task_id as "taskId", epoch, attempt, session_id as "sessionId", ${ms('granted_at')} as "grantedAtMs", ${ms('started_at')} as "startedAtMs"
     from baton.leases order by task_id`,
    (row) => row,
  );
  const sessions = await all<SessionRow, SessionRow>(
    `select id, worker_id as "workerId", state, ${ms('registered_at')} as "registeredAtMs", ${ms('renewed_at')} as "renewedAtMs",
            ${ms('expires_at')} as "expiresAtMs" from baton.sessions order by id`,
    (row) => row,
  );
  const workers = await all<WorkerRow, WorkerRow>(
    `select w.id, n.name as namespace, w.name, w.session_id as "sessionId", w.capabilities
     from baton.workers w join baton.namespaces n on n.id = w.namespace_id order by w.id`,
    (row) => row,
  );
  const events = await readEvents(sql);
  const { since: eventsSinceMs } = await one<{ since: number | null }>(
    `select case when exists (
       select from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = 'baton.events'::regclass and pg_get_expr(c.relpartbound, c.oid) like '%MINVALUE%'
     ) then null else coalesce((select ${ms('min(at)')} from baton.events), ${ms('clock_timestamp()')}) end as since`,
  );
  const runs = await all<RunRow, RunRow>(
    `select u.id, n.name as namespace, u.namespace_id || '/' || u.workflow_name || '@' || u.workflow_version as "workflowKey",
            u.workflow_name as workflow, u.state, u.execution, ${hasItems ? 'u.form, u.parent_run_id as "parentRunId"' : '\'graph\' as form, null as "parentRunId"'}, ${ms('u.created_at')} as "createdAtMs", u.idempotency_key as key, u.labels ->> 'mark' as mark
     from baton.runs u join baton.namespaces n on n.id = u.namespace_id order by u.id`,
    (row) => ({ ...row, workflowKey: shared(row.workflowKey) }),
  );
  const runNodes = await all<RunNodeRow, RunNodeRow>(
    `select run_id as "runId", node_id as "nodeId", state, task_id as "taskId" from baton.run_nodes order by run_id, ordinal`,
    (row) => ({ ...row, nodeId: shared(row.nodeId) }),
  );
  const workflows = await all<{ key: string; form: string }, WorkflowRow>(
    `select namespace_id || '/' || name || '@' || version as key, stored_form as form from baton.workflows`,
    ({ key, form }) => ({ key, nodes: plannedNodes(form) }),
  );
  const hasCheckpoints = await has('checkpoints');
  const checkpoints = hasCheckpoints
    ? await all<CheckpointRow, CheckpointRow>(
        `select task_id as "taskId", number::double precision as number, epoch, ${ms('created_at')} as "createdAtMs", save_id as "saveId"
         from baton.checkpoints order by task_id, number`,
        (row) => row,
      )
    : [];
  const counters = hasCheckpoints
    ? await all<{ taskId: string; last: number }, [string, number]>(
        'select task_id as "taskId", last_number::double precision as last from baton.checkpoint_counters',
        ({ taskId, last }) => [taskId, last],
      )
    : null;
  const journal = (await has('journal'))
    ? await all<JournalWrite, JournalWrite>(
        `select run_id as "runId", ${ms('at')} as "atMs" from baton.journal order by run_id, number`,
        (row) => row,
      )
    : undefined;
  const breakerChanges = (await has('breaker_changes'))
    ? await all<BreakerChange, BreakerChange>(
        `select worker_id as "workerId", device, from_state as "from", to_state as "to", ${ms('at')} as "atMs", reason
         from baton.breaker_changes order by id`,
        (row) => row,
      )
    : null;
  const idempotency = await all<IdempotencyRow, IdempotencyRow>(
    `select n.name as namespace, i.scope, i.key, i.id from baton.idempotency i join baton.namespaces n on n.id = i.namespace_id`,
    (row) => ({ ...row, namespace: shared(row.namespace), scope: shared(row.scope) }),
  );
  const { count: advances } = await one<{ count: number }>('select count(*)::integer as count from baton.advances');
  const knowsDevices = (await one<{ known: boolean }>("select to_regclass('baton.device_leases') is not null as known"))
    .known;
  const deviceLeases = knowsDevices
    ? await all<DeviceLeaseRow, DeviceLeaseRow>(
        `select scope, uuid, coalesce((to_jsonb(d) ->> 'place')::integer, 0) as place, worker_id as "workerId", task_id as "taskId", epoch
         from baton.device_leases d`,
        (row) => row,
      )
    : undefined;
  const ended = await snapshot();
  await sql.unsafe('commit');
  if (begun !== ended) throw new TornHistoryError('the connection was lost while the history was read; read it again');
  return {
    takenAtMs,
    tasks,
    attempts,
    outcomes,
    ready,
    waiting,
    leases,
    lanes,
    sessions,
    workers,
    events,
    eventsSinceMs,
    runs,
    runNodes,
    workflows,
    checkpoints,
    checkpointCounters: counters && new Map(counters),
    breakerChanges,
    idempotency,
    activity,
    advances,
    ...(deviceLeases && { deviceLeases }),
    ...(journal && { journal }),
  };
}

/** What is checked of a definition. What a durable function does stands in its journal. */
function plannedNodes(storedForm: string): WorkflowRow['nodes'] {
  if ((JSON.parse(storedForm) as { form?: unknown }).form === 'function') return [];
  const { nodes } = fromStoredForm(storedForm);
  const byId = new Map(nodes.map((node) => [node.id, node]));
  return nodes.map(({ id, needs, join }) => {
    // What may go on without it, has another's result, or runs elsewhere, need not have had a task that succeeded.
    const strict = needs
      .map((need) => byId.get(need)!)
      .filter((need) => !join && !need.onFailure && !need.cache && need.executor.type !== 'workflow');
    return {
      id,
      needs: strict.filter((need) => !need.forEach).map((need) => need.id),
      fanNeeds: strict.filter((need) => need.forEach).map((need) => need.id),
    };
  });
}

/** Rows are batches; their arrays make one event each. */
async function readEvents(sql: postgres.Sql): Promise<LogEvent[]> {
  const events: LogEvent[] = [];
  const text = (id: string): string => (id === '0' ? '' : id);
  const query = `select ${ms('at')} as at, array_to_json(types) as types, array_to_json(task_ids::text[]) as tasks,
      array_to_json(run_ids::text[]) as runs, array_to_json(attempts) as attempts
    from baton.events e order by e.xid, e.id`;
  for await (const rows of sql.unsafe(query).cursor(PAGE_ROWS))
    for (const row of rows as unknown as EventBatch[])
      row.types.forEach((type, i) => {
        events.push({
          type,
          taskId: text(row.tasks[i]!),
          runId: text(row.runs[i]!),
          attempt: row.attempts[i]!,
          atMs: row.at,
        });
      });
  return events;
}

interface EventBatch {
  at: number;
  types: number[];
  tasks: string[];
  runs: string[];
  attempts: number[];
}
