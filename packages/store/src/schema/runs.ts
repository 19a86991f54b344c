/** Workflows and their runs. */
import type { Failure } from '@baton/domain';
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import {
  at,
  baton,
  bytea,
  foreign,
  id,
  JOURNAL_KINDS,
  now,
  oneOf,
  RUN_FORMS,
  RUN_ITEM_STATES,
  RUN_NODE_STATES,
  RUN_STATES,
  wordsCheck,
} from './columns.ts';
import { namespaces } from './workers.ts';

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
    index('journal_output_blob').on(t.outputBlob).where(sql`${t.outputBlob} is not null`),
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
