/** What tasks have in common: queues, lanes, idempotency keys. */
import { EXECUTOR_TYPES, type Needs, PLACEMENTS, STRATEGIES, TASK_CLASSES } from '@baton/domain';
import { sql } from 'drizzle-orm';
import { boolean, index, integer, jsonb, primaryKey, text, unique } from 'drizzle-orm/pg-core';
import { at, baton, bytea, foreign, id, now, wordsCheck } from './columns.ts';
import { namespaces } from './workers.ts';

export const queues = baton.table(
  'queues',
  {
    namespaceId: integer('namespace_id').notNull(),
    name: text('name').notNull(),
    paused: boolean('paused').notNull().default(false),
    createdAt: at('created_at').notNull().default(now),
    strategy: text('strategy', { enum: STRATEGIES }),
    placement: text('placement', { enum: PLACEMENTS }),
  },
  (t) => [
    wordsCheck('queues_strategy_check', t.strategy, STRATEGIES),
    wordsCheck('queues_placement_check', t.placement, PLACEMENTS),
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
    needs: jsonb('needs').$type<Needs>(),
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
