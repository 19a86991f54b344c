import { readFileSync } from 'node:fs';
import { EVENT, EXECUTOR_TYPES, TASK_CLASSES, TASK_STATES, TERMINAL_STATES } from '@baton/domain';
import { eq, sql as expression } from 'drizzle-orm';
import { integer, text } from 'drizzle-orm/pg-core';
import { drizzle } from 'drizzle-orm/postgres-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CatalogFacts, compareCatalogs, createFromDrizzle, readCatalog } from './database/catalog.fixture.ts';
import { type MigratedDatabase, migratedDatabase } from './database/migrated.fixture.ts';
import type { RunNodeState, RunState } from './runs/runs.ts';
import * as schema from './schema.ts';
import type { WorkerRow } from './workers/sessions.ts';

let db: MigratedDatabase;
let migrated: CatalogFacts;
let described: CatalogFacts;

beforeAll(async () => {
  // One connection: differences are tried out inside transactions.
  db = await migratedDatabase({ max: 1 });
  migrated = await readCatalog(db.sql, 'baton');
  described = await catalogOf(schema);
});
afterAll(() => db.drop());

let copies = 0;
async function catalogOf(definitions: Record<string, unknown>): Promise<CatalogFacts> {
  const name = `drizzle_${++copies}`;
  await createFromDrizzle(db.sql, name, definitions);
  return readCatalog(db.sql, name);
}

describe('the Drizzle schema and the migrated database', () => {
  it('say the same, in both directions', () => {
    expect(compareCatalogs(migrated, described)).toEqual([]);
    // Not vacuous: both sides hold the tables and their parts.
    expect([...migrated.keys()].filter((name) => name.startsWith('table ')).length).toBe(43);
    expect(migrated.get('column tasks.id')).toBe('bigint not null');
    expect(described.get('check tasks.tasks_max_attempts_check')).toContain('1000');
  });

  it.each([
    ['a column more', 'alter table baton.tasks add column extra text', /^column tasks.extra: .*Drizzle none$/],
    [
      'a column less',
      'alter table baton.waiting drop column crashes',
      /^(column|default) waiting.crashes: migrated none/,
    ],
    [
      'another type',
      'alter table baton.ready alter column crashes type integer',
      /^column ready.crashes: .*"integer not null".*"smallint not null"/,
    ],
    ['a null allowed', 'alter table baton.tasks alter column priority drop not null', /^column tasks.priority/],
    [
      'a default less',
      'alter table baton.lanes alter column paused drop default',
      /^default lanes.paused: migrated none/,
    ],
    [
      'another default',
      'alter table baton.runs alter column execution set default 2',
      /^default runs.execution: migrated "2", Drizzle "1"/,
    ],
    ['an index less', 'drop index baton.ready_dispatch', /^index ready.ready_dispatch: migrated none/],
    [
      'an index of another order',
      'drop index baton.ready_dispatch; create index ready_dispatch on baton.ready (lane_id, priority, position)',
      /^index ready.ready_dispatch/,
    ],
    ['an index more', 'create index extra on baton.runs (state)', /^index runs.extra: .*Drizzle none$/],
    [
      'a unique constraint less',
      'alter table baton.routes drop constraint routes_namespace_id_queue_kind_key',
      /^index routes|^unique routes/,
    ],
    [
      'a primary key less',
      'alter table baton.idempotency drop constraint idempotency_pkey',
      /^(index|primary key) idempotency/,
    ],
    [
      'a word less in a check',
      `alter table baton.lanes drop constraint lanes_executor_check, add constraint lanes_executor_check check (executor in ('function', 'grpc'))`,
      /^check lanes.lanes_executor_check/,
    ],
    [
      'a foreign key less',
      'alter table baton.run_nodes drop constraint run_nodes_run_id_fkey',
      /^foreign key run_nodes/,
    ],
    ['a table more', 'create table baton.extra (a integer)', /^(table|column) extra/],
    ['a table less', 'drop table baton.sweeps', /sweeps.*migrated none/],
  ])('differ when the database has %s', async (_, change, difference) => {
    await db.sql.unsafe('begin');
    try {
      await db.sql.unsafe(change);
      const found = compareCatalogs(await readCatalog(db.sql, 'baton'), described);
      expect(found.length).toBeGreaterThan(0);
      for (const line of found) expect(line).toMatch(difference);
    } finally {
      await db.sql.unsafe('rollback');
    }
  });

  it('differ when Drizzle has a column more, a table less, a nullable column', async () => {
    const { sweeps: _, masters: __, ...others } = schema;
    const altered = schema.baton.table('masters', {
      node: integer('node').primaryKey(),
      instance: text('instance'),
      surplus: text('surplus').notNull().default('x'),
    });
    const found = compareCatalogs(migrated, await catalogOf({ ...others, altered }));
    expect(found).toContain('column masters.node: migrated "smallint not null", Drizzle "integer not null"');
    expect(found).toContain('column masters.instance: migrated "text not null", Drizzle "text"');
    expect(found).toContain('column masters.surplus: migrated none, Drizzle "text not null"');
    expect(found).toContain('table sweeps: migrated "", Drizzle none');
    expect(found.some((line) => line.startsWith('check masters.masters_node_check: '))).toBe(true);
  });

  it('read and write the types that Drizzle does not know', async () => {
    const orm = drizzle(db.sql as never);
    const big = '9223372036854775807';
    await orm.insert(schema.idempotency).values({
      namespaceId: 1,
      scope: 'task:x',
      key: 'k',
      bodyHash: Uint8Array.of(0, 255),
      id: big,
      expiresAt: new Date(0),
    });
    const [key] = await orm.select().from(schema.idempotency).where(eq(schema.idempotency.id, big));
    expect(key).toMatchObject({ id: big, expiresAt: new Date(0) });
    expect([...key!.bodyHash]).toEqual([0, 255]);
    await orm.insert(schema.events).values({
      namespaceIds: [1],
      types: [1],
      taskIds: [big],
      runIds: ['0'],
      attempts: [0],
      workerIds: [0],
    });
    const [event] = await orm.select().from(schema.events);
    expect(event).toMatchObject({ namespaceIds: [1], taskIds: [big], runIds: ['0'] });
    expect(event!.xid).toMatch(/^\d+$/);
    expect(typeof event!.id).toBe('bigint');
    expect(await orm.select({ n: expression<number>`count(*)::integer` }).from(schema.lanes)).toEqual([{ n: 0 }]);
  });
});

describe('the words that are stored', () => {
  /** The quoted words of a CHECK constraint, as the database has it. */
  const words = (constraint: string) =>
    [...migrated.get(`check ${constraint}`)!.matchAll(/'([^']*)'::text/g)].map((match) => match[1]);
  const sorted = (list: readonly (string | undefined)[]) => [...list].sort();

  it('of a task: each state of the domain is a table or a word in one', () => {
    const stored = [
      'ready',
      'leased',
      ...words('waiting.waiting_reason_check'),
      ...words('outcomes.outcomes_state_check'),
    ];
    expect(sorted(stored)).toEqual(sorted(TASK_STATES));
    expect(sorted(words('outcomes.outcomes_state_check'))).toEqual(sorted(TERMINAL_STATES));
  });

  it('of classes and executors: those of the domain', () => {
    expect(sorted(words('lanes.lanes_task_class_check'))).toEqual(sorted(TASK_CLASSES));
    expect(sorted(words('lanes.lanes_executor_check'))).toEqual(sorted(EXECUTOR_TYPES));
  });

  it('of runs, nodes, sessions: those of the types that statements answer with', () => {
    // The compiler refuses a word too many or too few on either side.
    const runs: Record<RunState, true> = {
      pending: true,
      running: true,
      waiting: true,
      succeeded: true,
      failed: true,
      cancelled: true,
    };
    const { waiting: _, ...others } = runs;
    const nodes: Record<RunNodeState, true> = { ...others, skipped: true };
    const sessions: Record<Exclude<WorkerRow['state'], 'lost'>, true> = { active: true, draining: true, closed: true };
    expect(sorted(words('runs.runs_state_check'))).toEqual(sorted(Object.keys(runs)));
    expect(sorted(words('run_nodes.run_nodes_state_check'))).toEqual(sorted(Object.keys(nodes)));
    expect(sorted(words('sessions.sessions_state_check'))).toEqual(sorted(Object.keys(sessions)));
    const same: [
      Equal<RunState, (typeof schema.RUN_STATES)[number]>,
      Equal<RunNodeState, (typeof schema.RUN_NODE_STATES)[number]>,
    ] = [true, true];
    expect(same).toEqual([true, true]);
  });

  it('of events: the numbers of the contract', () => {
    const proto = readFileSync(new URL('../../../proto/baton/v1/event.proto', import.meta.url), 'utf8');
    const body = /enum EventType \{([^}]*)\}/.exec(proto)![1]!;
    const numbers = Object.fromEntries(
      [...body.matchAll(/EVENT_TYPE_([A-Z_]+) = (\d+);/g)].map(([, name, number]) => [name, Number(number)]),
    );
    const { UNSPECIFIED: unspecified, ...meant } = numbers;
    expect(unspecified).toBe(0);
    const stored = Object.entries(EVENT).map(([name, number]) => [name.replace(/[A-Z]/g, '_$&').toUpperCase(), number]);
    expect(meant).toEqual(Object.fromEntries(stored));
  });
});

type Equal<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

describe('for people who look with SQL', () => {
  it('every table, view, column and function has a comment', async () => {
    const rows = await db.sql.unsafe(`
      select c.relname as what, obj_description(c.oid, 'pg_class') as comment from pg_class c
      where c.relnamespace = 'baton'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
      union all
      select c.relname || '.' || a.attname, col_description(c.oid, a.attnum) from pg_class c join pg_attribute a on a.attrelid = c.oid
      where c.relnamespace = 'baton'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition and a.attnum > 0 and not a.attisdropped
      union all
      select p.proname || '()', obj_description(p.oid, 'pg_proc') from pg_proc p where p.pronamespace = 'baton'::regnamespace
      union all
      select 'schema', obj_description('baton'::regnamespace, 'pg_namespace')
      union all
      select 'baton_migrations.' || a.attname, col_description(a.attrelid, a.attnum) from pg_attribute a
      where a.attrelid = 'public.baton_migrations'::regclass and a.attnum > 0 and not a.attisdropped`);
    expect(rows.length).toBeGreaterThan(200);
    expect(rows.filter((r) => !(r.comment as string | null)?.trim()).map((r) => r.what)).toEqual([]);
  });
});
