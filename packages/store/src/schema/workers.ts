/** Who is there: masters, workers and their sessions, breakers. */
import { BREAKER_STATES } from '@baton/domain';
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
  unique,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import { at, baton, foreign, id, now, SESSION_STATES, wordsCheck } from './columns.ts';

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

export const workerHealth = baton.table(
  'worker_health',
  {
    workerId: integer('worker_id').primaryKey(),
    sessionId: id('session_id').notNull(),
    at: at('at').notNull(),
    healthy: boolean('healthy').notNull(),
    report: jsonb('report').$type<Record<string, unknown>>().notNull(),
  },
  (t) => [foreign('worker_health_worker_id_fkey', [t.workerId], [workers.id]).onDelete('cascade')],
);

export const healthMinutes = baton.table(
  'health_minutes',
  {
    workerId: integer('worker_id').notNull(),
    minute: at('minute').notNull(),
    healthy: boolean('healthy').notNull(),
    sample: jsonb('sample').$type<Record<string, unknown>>().notNull(),
  },
  (t) => [
    primaryKey({ name: 'health_minutes_pkey', columns: [t.workerId, t.minute] }),
    index('health_minutes_minute').on(t.minute),
    foreign('health_minutes_worker_id_fkey', [t.workerId], [workers.id]).onDelete('cascade'),
  ],
);
