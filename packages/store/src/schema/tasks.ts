/** Tasks, where each stands, its attempts and its end. */
import type { Failure, RetryPolicy } from '@baton/domain';
import { sql } from 'drizzle-orm';
import { boolean, check, index, integer, jsonb, primaryKey, real, smallint, text } from 'drizzle-orm/pg-core';
import {
  ATTEMPT_STATES,
  at,
  baton,
  bytea,
  durationMs,
  id,
  machineMade,
  now,
  OUTCOME_STATES,
  oneOf,
  WAITING_REASONS,
  wordsCheck,
} from './columns.ts';

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
    hasDevices: boolean('has_devices').notNull().default(false),
    laneNamespaceId: integer('lane_namespace_id'),
    laneRouteId: integer('lane_route_id'),
    sessionWorkerId: integer('session_worker_id'),
  },
  (t) => [
    index('leases_session').on(t.sessionId),
    index('leases_cancelled').on(t.sessionId).where(sql`${t.cancelReason} is not null`),
    index('leases_started').on(t.startedAt).where(sql`${t.startedAt} is not null`),
  ],
);

/** Devices that leases hold; see migrations 0007 and 0009. */
export const deviceLeases = baton.table(
  'device_leases',
  {
    scope: integer('scope').notNull(),
    uuid: text('uuid').notNull(),
    workerId: integer('worker_id').notNull(),
    taskId: id('task_id').notNull(),
    epoch: integer('epoch').notNull(),
    grantedAt: at('granted_at').notNull().default(now),
    place: smallint('place').notNull().default(0),
  },
  (t) => [
    primaryKey({ name: 'device_leases_pkey', columns: [t.scope, t.uuid, t.place] }),
    check('device_leases_place_check', sql`${t.place} in (0, 1)`),
    index('device_leases_task').on(t.taskId),
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
