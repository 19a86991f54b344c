/** What tasks write while they run: logs, output, checkpoints. */
import { sql } from 'drizzle-orm';
import {
  boolean,
  check,
  doublePrecision,
  index,
  integer,
  jsonb,
  primaryKey,
  smallint,
  text,
} from 'drizzle-orm/pg-core';
import { at, baton, bytea, id } from './columns.ts';

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
