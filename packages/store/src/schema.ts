/**
 * Baton's tables for TypeScript: what Drizzle's typed queries and the row types are made of. Migrations are reviewed SQL of their
 * own; a test compares the two through the catalog of a migrated database, in both directions. What Drizzle has no words for
 * (partitions, comments, storage, views, functions) stands in the migrations alone.
 *
 * Long because it is one schema, whose tables refer to each other.
 */
import {
  BREAKER_STATES,
  EXECUTOR_TYPES,
  type Failure,
  MACHINE_MADE,
  type RetryPolicy,
  TASK_CLASSES,
} from '@baton/domain';
import { type SQL, sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  customType,
  doublePrecision,
  foreignKey,
  index,
  integer,
  jsonb,
  type PgColumn,
  pgSchema,
  primaryKey,
  real,
  smallint,
  text,
  timestamp,
  unique,
  uniqueIndex,
} from 'drizzle-orm/pg-core';

const JOURNAL_KINDS = ['step', 'sleep', 'signal', 'task', 'child'] as const;

/** 63 bits, made by a master; an opaque decimal string in TypeScript, never a number. */
const id = customType<{ data: string; driverData: string }>({ dataType: () => 'bigint' });

/** A bigint that is a list of ids, e.g. of a batch of events. */
const ids = customType<{ data: string[]; driverData: string }>({
  dataType: () => 'bigint[]',
  toDriver: (values) => `{${values.join(',')}}`,
  fromDriver: (value) => (value === '{}' ? [] : value.slice(1, -1).split(',')),
});

const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' });

/** A transaction's number, 64 bits; a decimal string. */
const xid8 = customType<{ data: string; driverData: string }>({ dataType: () => 'xid8' });

/** Milliseconds in a bigint: within 2^53 by far, so a number. */
const durationMs = (name: string) => bigint(name, { mode: 'number' });

/** Microseconds in the database, milliseconds in a Date: to look at, not to page by. */
const at = (name: string) => timestamp(name, { withTimezone: true });

const now = sql`clock_timestamp()`;

/** A name as Postgres gives it to an unnamed constraint of these columns. */
const foreign = (name: string, columns: [PgColumn, ...PgColumn[]], foreignColumns: [PgColumn, ...PgColumn[]]) =>
  foreignKey({ name, columns, foreignColumns });

const oneOf = (column: PgColumn, words: readonly string[]): SQL =>
  sql`${column} in (${sql.raw(words.map((word) => `'${word}'`).join(', '))})`;

const machineMade = (state: PgColumn, failure: PgColumn): SQL =>
  sql`${oneOf(state, ['failed', 'lost'])} and ${failure} ->> 'type' in (${sql.raw(MACHINE_MADE.map((type) => `'${type}'`).join(', '))})`;

const wordsCheck = (name: string, column: PgColumn, words: readonly string[]) => check(name, oneOf(column, words));

/** States of a session, as stored. */
export const SESSION_STATES = ['active', 'draining', 'closed'] as const;
/** Why a task is in `waiting`: those of the task's states that stand for waiting. */
export const WAITING_REASONS = ['scheduled', 'backoff', 'blocked'] as const;
/** Ends of a task. */
export const OUTCOME_STATES = ['succeeded', 'failed', 'cancelled'] as const;
/** What became of a lease. */
export const ATTEMPT_STATES = ['succeeded', 'failed', 'cancelled', 'lost', 'returned'] as const;
export const RUN_STATES = ['pending', 'running', 'waiting', 'succeeded', 'failed', 'cancelled'] as const;
/** What a run is carried out by: the nodes of a definition, or a durable function. */
export const RUN_FORMS = ['graph', 'function'] as const;
export const RUN_ITEM_STATES = ['pending', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export const RUN_NODE_STATES = ['pending', 'running', 'succeeded', 'failed', 'cancelled', 'skipped'] as const;

export const baton = pgSchema('baton');

// who is there

export const masters = baton.table(
  'masters',
  {
    node: smallint('node').primaryKey(),
    instance: text('instance').notNull(),
    address: text('address').notNull(),
    startedAt: at('started_at').notNull(),
    expiresAt: at('expires_at').notNull(),
    idFloor: id('id_floor').notNull(),
  },
  (t) => [check('masters_node_check', sql`${t.node} between 0 and 1023`)],
);

export const namespaces = baton.table(
  'namespaces',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    name: text('name').notNull(),
    createdAt: at('created_at').notNull().default(now),
  },
  (t) => [
    unique('namespaces_name_key').on(t.name),
    check('namespaces_name_check', sql`${t.name} ~ '^[a-z0-9][a-z0-9._-]{0,62}$'`),
  ],
);

export const workers = baton.table(
  'workers',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    namespaceId: integer('namespace_id').notNull(),
    name: text('name').notNull(),
    sessionId: id('session_id').notNull(),
    capabilities: jsonb('capabilities').$type<Record<string, unknown>>().notNull(),
    serviceUrl: text('service_url').notNull(),
    version: text('version').notNull(),
    metadata: jsonb('metadata').$type<Record<string, string>>().notNull(),
    principal: text('principal'),
    registeredAt: at('registered_at').notNull(),
  },
  (t) => [
    unique('workers_namespace_id_name_key').on(t.namespaceId, t.name),
    foreign('workers_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
  ],
);

export const sessions = baton.table(
  'sessions',
  {
    id: id('id').primaryKey(),
    expiresAt: at('expires_at').notNull(),
    renewedAt: at('renewed_at').notNull(),
    registeredAt: at('registered_at').notNull(),
    namespaceId: integer('namespace_id').notNull(),
    workerId: integer('worker_id').notNull(),
    state: text('state', { enum: SESSION_STATES }).notNull(),
    shutdown: boolean('shutdown').notNull().default(false),
    instanceId: text('instance_id').notNull(),
    reason: text('reason'),
    metrics: jsonb('metrics').$type<Record<string, number>>(),
    heldBack: boolean('held_back').notNull().default(false),
    recall: integer('recall').notNull().default(0),
    beat: id('beat').notNull().default(sql`0`),
  },
  (t) => [
    uniqueIndex('sessions_instance').on(t.workerId, t.instanceId),
    wordsCheck('sessions_state_check', t.state, SESSION_STATES),
  ],
);

// what tasks have in common

export const queues = baton.table(
  'queues',
  {
    namespaceId: integer('namespace_id').notNull(),
    name: text('name').notNull(),
    paused: boolean('paused').notNull().default(false),
    createdAt: at('created_at').notNull().default(now),
  },
  (t) => [
    primaryKey({ name: 'queues_pkey', columns: [t.namespaceId, t.name] }),
    foreign('queues_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
  ],
);

export const routes = baton.table(
  'routes',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    namespaceId: integer('namespace_id').notNull(),
    queue: text('queue').notNull(),
    kind: text('kind').notNull(),
  },
  (t) => [
    unique('routes_namespace_id_queue_kind_key').on(t.namespaceId, t.queue, t.kind),
    foreign('routes_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
  ],
);

export const lanes = baton.table(
  'lanes',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    namespaceId: integer('namespace_id').notNull(),
    routeId: integer('route_id').notNull(),
    executor: text('executor', { enum: EXECUTOR_TYPES }).notNull(),
    taskClass: text('task_class', { enum: TASK_CLASSES }).notNull(),
    tags: text('tags').array().notNull().default(sql`'{}'`),
    fairnessKey: text('fairness_key').notNull().default(''),
    paused: boolean('paused').notNull().default(false),
    createdAt: at('created_at').notNull().default(now),
  },
  (t) => [
    unique('lanes_route_id_executor_task_class_tags_fairness_key_key').on(
      t.routeId,
      t.executor,
      t.taskClass,
      t.tags,
      t.fairnessKey,
    ),
    foreign('lanes_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
    foreign('lanes_route_id_fkey', [t.routeId], [routes.id]),
    wordsCheck('lanes_executor_check', t.executor, EXECUTOR_TYPES),
    wordsCheck('lanes_task_class_check', t.taskClass, TASK_CLASSES),
  ],
);

export const idempotency = baton.table(
  'idempotency',
  {
    namespaceId: integer('namespace_id').notNull(),
    scope: text('scope').notNull(),
    key: text('key').notNull(),
    bodyHash: bytea('body_hash').notNull(),
    id: id('id').notNull(),
    expiresAt: at('expires_at').notNull(),
  },
  (t) => [
    primaryKey({ name: 'idempotency_pkey', columns: [t.namespaceId, t.scope, t.key] }),
    index('idempotency_expiry').on(t.expiresAt),
  ],
);

// tasks

export const tasks = baton.table(
  'tasks',
  {
    id: id('id').primaryKey(),
    createdAt: at('created_at').notNull().default(now),
    dueAt: at('due_at'),
    runId: id('run_id'),
    retryOf: id('retry_of'),
    startToCloseMs: durationMs('start_to_close_ms').notNull(),
    namespaceId: integer('namespace_id').notNull(),
    routeId: integer('route_id').notNull(),
    laneId: integer('lane_id').notNull(),
    priority: smallint('priority').notNull(),
    maxAttempts: smallint('max_attempts').notNull(),
    inputEncoding: smallint('input_encoding').$type<1 | 2>().notNull(),
    input: bytea('input'),
    executorConfig: jsonb('executor_config').$type<Record<string, unknown>>(),
    retry: jsonb('retry').$type<Partial<RetryPolicy>>(),
    nodeId: text('node_id'),
    labels: jsonb('labels').$type<Record<string, string>>(),
    idempotencyKey: text('idempotency_key'),
    principal: text('principal'),
    scheduleToStartMs: durationMs('schedule_to_start_ms'),
    progressTimeoutMs: durationMs('progress_timeout_ms'),
    inputBlob: bytea('input_blob'),
    item: integer('item'),
  },
  (t) => [
    index('tasks_retry_of').on(t.retryOf).where(sql`${t.retryOf} is not null`),
    index('tasks_input_blob').on(t.namespaceId, t.inputBlob).where(sql`${t.inputBlob} is not null`),
    check('tasks_max_attempts_check', sql`${t.maxAttempts} between 1 and 1000`),
    check('tasks_input_encoding_check', sql`${t.inputEncoding} in (1, 2)`),
  ],
);

export const ready = baton.table(
  'ready',
  {
    taskId: id('task_id').primaryKey(),
    position: id('position').notNull(),
    runId: id('run_id'),
    startToCloseMs: durationMs('start_to_close_ms').notNull(),
    laneId: integer('lane_id').notNull(),
    epoch: integer('epoch').notNull().default(0),
    priority: smallint('priority').notNull(),
    attempt: smallint('attempt').notNull().default(0),
    maxAttempts: smallint('max_attempts').notNull(),
    crashes: smallint('crashes').notNull().default(0),
    inputEncoding: smallint('input_encoding').$type<1 | 2>().notNull(),
    input: bytea('input'),
    infra: smallint('infra').notNull().default(0),
    ooms: smallint('ooms').notNull().default(0),
  },
  (t) => [index('ready_dispatch').on(t.laneId, t.priority.desc(), t.position)],
);

export const waiting = baton.table(
  'waiting',
  {
    taskId: id('task_id').primaryKey(),
    dueAt: at('due_at'),
    runId: id('run_id'),
    startToCloseMs: durationMs('start_to_close_ms').notNull(),
    laneId: integer('lane_id').notNull(),
    epoch: integer('epoch').notNull().default(0),
    priority: smallint('priority').notNull(),
    attempt: smallint('attempt').notNull().default(0),
    maxAttempts: smallint('max_attempts').notNull(),
    crashes: smallint('crashes').notNull().default(0),
    inputEncoding: smallint('input_encoding').$type<1 | 2>().notNull(),
    reason: text('reason', { enum: WAITING_REASONS }).notNull(),
    infra: smallint('infra').notNull().default(0),
    ooms: smallint('ooms').notNull().default(0),
  },
  (t) => [
    index('waiting_due').on(t.dueAt).where(sql`${t.dueAt} is not null`),
    wordsCheck('waiting_reason_check', t.reason, WAITING_REASONS),
    check('waiting_check', sql`(${t.dueAt} is null) = (${t.reason} = 'blocked')`),
  ],
);

export const leases = baton.table(
  'leases',
  {
    taskId: id('task_id').primaryKey(),
    sessionId: id('session_id').notNull(),
    grantedAt: at('granted_at').notNull(),
    startedAt: at('started_at'),
    position: id('position').notNull(),
    runId: id('run_id'),
    startToCloseMs: durationMs('start_to_close_ms').notNull(),
    laneId: integer('lane_id').notNull(),
    epoch: integer('epoch').notNull(),
    priority: smallint('priority').notNull(),
    attempt: smallint('attempt').notNull(),
    maxAttempts: smallint('max_attempts').notNull(),
    crashes: smallint('crashes').notNull(),
    inputEncoding: smallint('input_encoding').$type<1 | 2>().notNull(),
    cancelReason: text('cancel_reason'),
    infra: smallint('infra').notNull().default(0),
    ooms: smallint('ooms').notNull().default(0),
  },
  (t) => [
    index('leases_session').on(t.sessionId),
    index('leases_cancelled').on(t.sessionId).where(sql`${t.cancelReason} is not null`),
    index('leases_started').on(t.startedAt).where(sql`${t.startedAt} is not null`),
  ],
);

export const attempts = baton.table(
  'attempts',
  {
    taskId: id('task_id').notNull(),
    sessionId: id('session_id').notNull(),
    grantedAt: at('granted_at').notNull(),
    startedAt: at('started_at'),
    endedAt: at('ended_at').notNull(),
    retryDelayMs: durationMs('retry_delay_ms'),
    epoch: integer('epoch').notNull(),
    workerId: integer('worker_id').notNull(),
    attempt: smallint('attempt').notNull(),
    state: text('state', { enum: ATTEMPT_STATES }).notNull(),
    failure: jsonb('failure').$type<Failure>(),
  },
  (t) => [
    primaryKey({ name: 'attempts_pkey', columns: [t.taskId, t.epoch] }),
    index('attempts_failures')
      .on(t.endedAt.desc(), t.taskId)
      .where(oneOf(t.state, ['failed', 'lost'])),
    index('attempts_failures_worker')
      .on(t.workerId, t.endedAt.desc())
      .where(oneOf(t.state, ['failed', 'lost'])),
    index('attempts_machine_made').on(t.workerId, t.endedAt.desc()).where(machineMade(t.state, t.failure)),
    index('attempts_machine_made_at').on(t.endedAt.desc(), t.workerId).where(machineMade(t.state, t.failure)),
    wordsCheck('attempts_state_check', t.state, ATTEMPT_STATES),
  ],
);

export const outcomes = baton.table(
  'outcomes',
  {
    taskId: id('task_id').primaryKey(),
    runId: id('run_id'),
    endedAt: at('ended_at').notNull(),
    namespaceId: integer('namespace_id').notNull(),
    routeId: integer('route_id').notNull(),
    workerId: integer('worker_id'),
    epoch: integer('epoch').notNull(),
    attempt: smallint('attempt').notNull(),
    outputEncoding: smallint('output_encoding').$type<1 | 2>(),
    state: text('state', { enum: OUTCOME_STATES }).notNull(),
    output: bytea('output'),
    failure: jsonb('failure').$type<Failure>(),
    cancelReason: text('cancel_reason'),
    outputBlob: bytea('output_blob'),
  },
  (t) => [
    index('outcomes_list').on(t.routeId, t.state, t.taskId),
    index('outcomes_output_blob').on(t.namespaceId, t.outputBlob).where(sql`${t.outputBlob} is not null`),
    wordsCheck('outcomes_state_check', t.state, OUTCOME_STATES),
  ],
);

export const taskLogs = baton.table(
  'task_logs',
  {
    taskId: id('task_id').notNull(),
    sequence: id('sequence').notNull(),
    at: at('at').notNull(),
    epoch: integer('epoch').notNull(),
    attempt: smallint('attempt').notNull(),
    stream: text('stream').notNull(),
    text: text('text').notNull(),
  },
  (t) => [primaryKey({ name: 'task_logs_pkey', columns: [t.taskId, t.epoch, t.sequence] })],
);

// deadlines

export const startDeadlines = baton.table(
  'start_deadlines',
  {
    taskId: id('task_id').primaryKey(),
    timeoutMs: durationMs('timeout_ms').notNull(),
    expiresAt: at('expires_at').notNull(),
  },
  (t) => [index('start_deadlines_expiry').on(t.expiresAt)],
);

export const progress = baton.table('progress', {
  taskId: id('task_id').primaryKey(),
  sessionId: id('session_id').notNull(),
  signAt: at('sign_at').notNull(),
  timeoutMs: durationMs('timeout_ms'),
  epoch: integer('epoch').notNull(),
  fraction: real('fraction'),
  message: text('message'),
});

// breakers

export const breakers = baton.table(
  'breakers',
  {
    workerId: integer('worker_id').notNull(),
    device: text('device').notNull(),
    state: text('state', { enum: BREAKER_STATES }).notNull(),
    changedAt: at('changed_at').notNull(),
    countedFrom: at('counted_from').notNull(),
    probeTaskId: id('probe_task_id'),
    probeEpoch: integer('probe_epoch'),
    successes: smallint('successes').notNull().default(0),
    reason: text('reason').notNull(),
  },
  (t) => [
    primaryKey({ name: 'breakers_pkey', columns: [t.workerId, t.device] }),
    index('breakers_not_closed').on(t.changedAt).where(sql`${t.state} <> 'closed'`),
    foreign('breakers_worker_id_fkey', [t.workerId], [workers.id]),
    wordsCheck('breakers_state_check', t.state, BREAKER_STATES),
  ],
);

export const breakerChanges = baton.table('breaker_changes', {
  id: bigint('id', { mode: 'bigint' }).primaryKey().generatedAlwaysAsIdentity(),
  at: at('at').notNull(),
  workerId: integer('worker_id').notNull(),
  device: text('device').notNull(),
  fromState: text('from_state').notNull(),
  toState: text('to_state').notNull(),
  reason: text('reason').notNull(),
});

// blobs, checkpoints, output

/** Where the bytes of a blob are. */
export const BLOB_PLACES = ['postgres', 'directory'] as const;

export const blobs = baton.table(
  'blobs',
  {
    namespaceId: integer('namespace_id').notNull(),
    sha256: bytea('sha256').notNull(),
    sizeBytes: id('size_bytes').notNull(),
    contentId: id('content_id').notNull(),
    place: text('place', { enum: BLOB_PLACES }).notNull(),
    createdAt: at('created_at').notNull().default(now),
    usedAt: at('used_at').notNull().default(now),
  },
  (t) => [
    primaryKey({ name: 'blobs_pkey', columns: [t.namespaceId, t.sha256] }),
    index('blobs_used').on(t.usedAt),
    wordsCheck('blobs_place_check', t.place, BLOB_PLACES),
  ],
);

export const blobUploads = baton.table(
  'blob_uploads',
  {
    id: id('id').primaryKey(),
    namespaceId: integer('namespace_id').notNull(),
    sizeBytes: id('size_bytes').notNull(),
    receivedBytes: id('received_bytes').notNull().default(sql`0`),
    place: text('place', { enum: BLOB_PLACES }).notNull(),
    expiresAt: at('expires_at').notNull(),
  },
  (t) => [wordsCheck('blob_uploads_place_check', t.place, BLOB_PLACES)],
);

export const blobChunks = baton.table(
  'blob_chunks',
  { contentId: id('content_id').notNull(), byteOffset: id('byte_offset').notNull(), data: bytea('data').notNull() },
  (t) => [primaryKey({ name: 'blob_chunks_pkey', columns: [t.contentId, t.byteOffset] })],
);

export const checkpoints = baton.table(
  'checkpoints',
  {
    taskId: id('task_id').notNull(),
    number: id('number').notNull(),
    createdAt: at('created_at').notNull(),
    sizeBytes: id('size_bytes').notNull(),
    score: doublePrecision('score'),
    epoch: integer('epoch').notNull(),
    workerId: integer('worker_id').notNull(),
    attempt: smallint('attempt').notNull(),
    encoding: smallint('encoding').$type<1 | 2>().notNull(),
    sha256: bytea('sha256').notNull(),
    data: bytea('data'),
    inBlob: boolean('in_blob').notNull(),
    saveId: text('save_id').notNull(),
    metadata: jsonb('metadata').$type<Record<string, string>>(),
  },
  (t) => [
    primaryKey({ name: 'checkpoints_pkey', columns: [t.taskId, t.number] }),
    index('checkpoints_blob').on(t.sha256).where(sql`${t.inBlob}`),
    check('checkpoints_encoding_check', sql`${t.encoding} in (1, 2)`),
    check('checkpoints_check', sql`${t.inBlob} = (${t.data} is null)`),
  ],
);

export const checkpointCounters = baton.table('checkpoint_counters', {
  taskId: id('task_id').primaryKey(),
  lastNumber: id('last_number').notNull(),
});

export const checkpointSaves = baton.table(
  'checkpoint_saves',
  {
    taskId: id('task_id').notNull(),
    saveId: text('save_id').notNull(),
    number: id('number').notNull(),
    epoch: integer('epoch').notNull(),
  },
  (t) => [primaryKey({ name: 'checkpoint_saves_pkey', columns: [t.taskId, t.saveId] })],
);

export const taskOutputs = baton.table(
  'task_outputs',
  {
    taskId: id('task_id').notNull(),
    byteOffset: id('byte_offset').notNull(),
    at: at('at').notNull(),
    epoch: integer('epoch').notNull(),
    attempt: smallint('attempt').notNull(),
    data: bytea('data').notNull(),
  },
  (t) => [primaryKey({ name: 'task_outputs_pkey', columns: [t.taskId, t.epoch, t.byteOffset] })],
);

export const cancelRequests = baton.table(
  'cancel_requests',
  {
    taskId: id('task_id').notNull(),
    at: at('at').notNull(),
    epoch: integer('epoch').notNull(),
    reason: text('reason').notNull(),
  },
  (t) => [primaryKey({ name: 'cancel_requests_pkey', columns: [t.taskId, t.epoch] })],
);

// workflows

export const workflows = baton.table(
  'workflows',
  {
    namespaceId: integer('namespace_id').notNull(),
    name: text('name').notNull(),
    version: integer('version').notNull(),
    hash: text('hash').notNull(),
    description: text('description').notNull(),
    definition: text('definition').notNull(),
    storedForm: text('stored_form').notNull(),
    principal: text('principal'),
    createdAt: at('created_at').notNull().default(now),
  },
  (t) => [
    primaryKey({ name: 'workflows_pkey', columns: [t.namespaceId, t.name, t.version] }),
    foreign('workflows_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
  ],
);

export const runs = baton.table(
  'runs',
  {
    id: id('id').primaryKey(),
    createdAt: at('created_at').notNull().default(now),
    startedAt: at('started_at'),
    endedAt: at('ended_at'),
    namespaceId: integer('namespace_id').notNull(),
    workflowVersion: integer('workflow_version').notNull(),
    execution: integer('execution').notNull().default(1),
    revision: integer('revision').notNull().default(0),
    nodesTotal: integer('nodes_total').notNull(),
    nodesSucceeded: integer('nodes_succeeded').notNull().default(0),
    state: text('state', { enum: RUN_STATES }).notNull(),
    workflowName: text('workflow_name').notNull(),
    inputEncoding: smallint('input_encoding').$type<1 | 2>().notNull().default(1),
    input: bytea('input'),
    failedNodeId: text('failed_node_id'),
    failureMessage: text('failure_message'),
    cancelReason: text('cancel_reason'),
    labels: jsonb('labels').$type<Record<string, string>>(),
    idempotencyKey: text('idempotency_key'),
    principal: text('principal'),
    form: text('form', { enum: RUN_FORMS }).notNull().default('graph'),
    nodesEnded: integer('nodes_ended').notNull().default(0),
    itemsTotal: integer('items_total').notNull().default(0),
    currentNodes: text('current_nodes').array(),
    output: bytea('output'),
    outputEncoding: smallint('output_encoding').$type<1 | 2>(),
    outputBlob: bytea('output_blob'),
    failure: jsonb('failure').$type<Failure>(),
    parentRunId: id('parent_run_id'),
    parentNodeId: text('parent_node_id'),
    parentItem: integer('parent_item'),
    driverTaskId: id('driver_task_id'),
    wakes: integer('wakes').notNull().default(0),
    release: text('release'),
    waitingFor: text('waiting_for').array(),
  },
  (t) => [
    index('runs_list').on(t.namespaceId, t.id),
    index('runs_open')
      .on(t.id)
      .where(oneOf(t.state, ['pending', 'running', 'waiting'])),
    index('runs_parent').on(t.parentRunId).where(sql`${t.parentRunId} is not null`),
    index('runs_succeeded').on(t.namespaceId, t.workflowName, t.id).where(sql`${t.state} = 'succeeded'`),
    index('runs_output_blob').on(t.namespaceId, t.outputBlob).where(sql`${t.outputBlob} is not null`),
    foreign('runs_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
    wordsCheck('runs_form_check', t.form, RUN_FORMS),
    wordsCheck('runs_state_check', t.state, RUN_STATES),
  ],
);

export const runNodes = baton.table(
  'run_nodes',
  {
    runId: id('run_id').notNull(),
    ordinal: integer('ordinal').notNull(),
    nodeId: text('node_id').notNull(),
    state: text('state', { enum: RUN_NODE_STATES }).notNull(),
    taskId: id('task_id'),
    execution: integer('execution').notNull().default(1),
    attempts: integer('attempts').notNull().default(0),
    workerId: integer('worker_id'),
    startedAt: at('started_at'),
    endedAt: at('ended_at'),
    outputHash: text('output_hash'),
    failure: jsonb('failure').$type<Failure>(),
    revision: integer('revision').notNull().default(0),
    itemsTotal: integer('items_total'),
    itemsStarted: integer('items_started'),
    itemsEnded: integer('items_ended'),
    itemsFailed: integer('items_failed'),
    childRunId: id('child_run_id'),
    cached: boolean('cached').notNull().default(false),
    skipReason: text('skip_reason'),
  },
  (t) => [
    primaryKey({ name: 'run_nodes_pkey', columns: [t.runId, t.nodeId] }),
    index('run_nodes_cached').on(t.taskId).where(sql`${t.cached}`),
    foreign('run_nodes_run_id_fkey', [t.runId], [runs.id]).onDelete('cascade'),
    wordsCheck('run_nodes_state_check', t.state, RUN_NODE_STATES),
  ],
);

export const runItems = baton.table(
  'run_items',
  {
    runId: id('run_id').notNull(),
    taskId: id('task_id'),
    childRunId: id('child_run_id'),
    startedAt: at('started_at').notNull().default(now),
    endedAt: at('ended_at'),
    ordinal: integer('ordinal').notNull(),
    item: integer('item').notNull(),
    execution: integer('execution').notNull(),
    attempts: integer('attempts').notNull().default(0),
    workerId: integer('worker_id'),
    cached: boolean('cached').notNull().default(false),
    state: text('state', { enum: RUN_ITEM_STATES }).notNull(),
    outputHash: text('output_hash'),
    failure: jsonb('failure').$type<Failure>(),
  },
  (t) => [
    primaryKey({ name: 'run_items_pkey', columns: [t.runId, t.ordinal, t.item] }),
    index('run_items_cached').on(t.taskId).where(sql`${t.cached}`),
    wordsCheck('run_items_state_check', t.state, RUN_ITEM_STATES),
  ],
);

export const resultCache = baton.table(
  'result_cache',
  {
    taskId: id('task_id').notNull(),
    expiresAt: at('expires_at').notNull(),
    namespaceId: integer('namespace_id').notNull(),
    kind: text('kind').notNull(),
    keyHash: bytea('key_hash').notNull(),
  },
  (t) => [
    primaryKey({ name: 'result_cache_pkey', columns: [t.namespaceId, t.kind, t.keyHash] }),
    index('result_cache_expiry').on(t.expiresAt),
    index('result_cache_task').on(t.taskId),
    foreign('result_cache_namespace_id_fkey', [t.namespaceId], [namespaces.id]),
  ],
);

export const advances = baton.table('advances', {
  id: bigint('id', { mode: 'bigint' }).primaryKey().generatedAlwaysAsIdentity(),
  runId: id('run_id').notNull(),
  taskId: id('task_id'),
  at: at('at').notNull().default(now),
  childRunId: id('child_run_id'),
});

export const journal = baton.table(
  'journal',
  {
    runId: id('run_id').notNull(),
    number: integer('number').notNull(),
    position: integer('position'),
    afterPosition: integer('after_position').notNull().default(0),
    at: at('at').notNull().default(now),
    endedAt: at('ended_at'),
    dueAt: at('due_at'),
    refId: id('ref_id'),
    attempts: integer('attempts').notNull().default(0),
    encoding: smallint('encoding').$type<1 | 2>(),
    kind: text('kind', { enum: JOURNAL_KINDS }).notNull(),
    name: text('name').notNull(),
    output: bytea('output'),
    outputBlob: bytea('output_blob'),
    failure: jsonb('failure').$type<Failure>(),
  },
  (t) => [
    primaryKey({ name: 'journal_pkey', columns: [t.runId, t.number] }),
    uniqueIndex('journal_position').on(t.runId, t.position).where(sql`${t.position} is not null`),
    index('journal_open').on(t.runId, t.number).where(sql`${t.position} is null`),
    foreign('journal_run_id_fkey', [t.runId], [runs.id]).onDelete('cascade'),
    wordsCheck('journal_kind_check', t.kind, JOURNAL_KINDS),
    check('journal_number_check', sql`${t.number} > 0`),
    check('journal_position_check', sql`${t.position} > 0`),
    check('journal_check', sql`(${t.position} is null) = (${t.endedAt} is null)`),
  ],
);

export const runSignals = baton.table(
  'run_signals',
  {
    id: id('id').primaryKey(),
    runId: id('run_id').notNull(),
    at: at('at').notNull().default(now),
    takenBy: integer('taken_by'),
    encoding: smallint('encoding').$type<1 | 2>().notNull(),
    name: text('name').notNull(),
    key: text('key'),
    payload: bytea('payload'),
    principal: text('principal'),
  },
  (t) => [
    uniqueIndex('run_signals_key').on(t.runId, t.key).where(sql`${t.key} is not null`),
    index('run_signals_open').on(t.runId, t.name, t.id).where(sql`${t.takenBy} is null`),
    foreign('run_signals_run_id_fkey', [t.runId], [runs.id]).onDelete('cascade'),
  ],
);

// events and duties

export const eventLog = baton.table(
  'event_log',
  {
    one: boolean('one').primaryKey().default(true),
    logId: text('log_id').notNull(),
    droppedXid: xid8('dropped_xid'),
    droppedId: id('dropped_id'),
  },
  (t) => [check('event_log_one_check', sql`${t.one}`)],
);

export const events = baton.table(
  'events',
  {
    id: bigint('id', { mode: 'bigint' }).generatedAlwaysAsIdentity(),
    xid: xid8('xid').notNull().default(sql`pg_current_xact_id()`),
    at: at('at').notNull().default(now),
    namespaceIds: integer('namespace_ids').array().notNull(),
    types: smallint('types').array().notNull(),
    taskIds: ids('task_ids').notNull(),
    runIds: ids('run_ids').notNull(),
    attempts: smallint('attempts').array().notNull(),
    workerIds: integer('worker_ids').array().notNull(),
  },
  (t) => [primaryKey({ name: 'events_pkey', columns: [t.at, t.id] }), index('events_order').on(t.xid, t.id)],
);

export const sweeps = baton.table('sweeps', {
  name: text('name').primaryKey(),
  lastAt: at('last_at').notNull(),
  resumedAt: at('resumed_at').notNull().default(sql`'-infinity'`),
});
