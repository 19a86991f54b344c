/** Events, and duties of masters. */
import { sql } from 'drizzle-orm';
import { bigint, boolean, check, index, integer, primaryKey, smallint, text } from 'drizzle-orm/pg-core';
import { at, baton, id, ids, now, xid8 } from './columns.ts';

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
