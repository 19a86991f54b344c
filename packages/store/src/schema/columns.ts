/** The schema, its types of columns, and words that are stored. */
import { MACHINE_MADE } from '@baton/domain';
import { type SQL, sql } from 'drizzle-orm';
import { bigint, check, customType, foreignKey, type PgColumn, pgSchema, timestamp } from 'drizzle-orm/pg-core';

export const JOURNAL_KINDS = ['step', 'sleep', 'signal', 'task', 'child'] as const;

/** 63 bits, made by a master; an opaque decimal string in TypeScript, never a number. */
export const id = customType<{ data: string; driverData: string }>({ dataType: () => 'bigint' });

/** A bigint that is a list of ids, e.g. of a batch of events. */
export const ids = customType<{ data: string[]; driverData: string }>({
  dataType: () => 'bigint[]',
  toDriver: (values) => `{${values.join(',')}}`,
  fromDriver: (value) => (value === '{}' ? [] : value.slice(1, -1).split(',')),
});

export const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' });

/** A transaction's number, 64 bits; a decimal string. */
export const xid8 = customType<{ data: string; driverData: string }>({ dataType: () => 'xid8' });

/** Milliseconds in a bigint: within 2^53 by far, so a number. */
export const durationMs = (name: string) => bigint(name, { mode: 'number' });

/** Microseconds in the database, milliseconds in a Date: to look at, not to page by. */
export const at = (name: string) => timestamp(name, { withTimezone: true });

export const now = sql`clock_timestamp()`;

/** A name as Postgres gives it to an unnamed constraint of these columns. */
export const foreign = (name: string, columns: [PgColumn, ...PgColumn[]], foreignColumns: [PgColumn, ...PgColumn[]]) =>
  foreignKey({ name, columns, foreignColumns });

export const oneOf = (column: PgColumn, words: readonly string[]): SQL =>
  sql`${column} in (${sql.raw(words.map((word) => `'${word}'`).join(', '))})`;

export const machineMade = (state: PgColumn, failure: PgColumn): SQL =>
  sql`${oneOf(state, ['failed', 'lost'])} and ${failure} ->> 'type' in (${sql.raw(MACHINE_MADE.map((type) => `'${type}'`).join(', '))})`;

export const wordsCheck = (name: string, column: PgColumn, words: readonly string[]) =>
  check(name, oneOf(column, words));

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
