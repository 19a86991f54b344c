/** Files that tasks produce and are handed. */
import { index, integer, primaryKey, text } from 'drizzle-orm/pg-core';
import { at, baton, bytea, id } from './columns.ts';

export const artifacts = baton.table(
  'artifacts',
  {
    taskId: id('task_id').notNull(),
    sizeBytes: id('size_bytes').notNull(),
    createdAt: at('created_at').notNull(),
    namespaceId: integer('namespace_id').notNull(),
    workerId: integer('worker_id').notNull(),
    epoch: integer('epoch').notNull(),
    sha256: bytea('sha256').notNull(),
    name: text('name').notNull(),
  },
  (t) => [
    primaryKey({ name: 'artifacts_pkey', columns: [t.taskId, t.name] }),
    index('artifacts_blob').on(t.namespaceId, t.sha256, t.taskId),
  ],
);

export const artifactInputs = baton.table(
  'artifact_inputs',
  {
    taskId: id('task_id').notNull(),
    producerTaskId: id('producer_task_id'),
    sizeBytes: id('size_bytes').notNull(),
    namespaceId: integer('namespace_id').notNull(),
    sha256: bytea('sha256').notNull(),
    name: text('name').notNull(),
  },
  (t) => [
    primaryKey({ name: 'artifact_inputs_pkey', columns: [t.taskId, t.name] }),
    index('artifact_inputs_blob').on(t.namespaceId, t.sha256, t.taskId),
  ],
);
