import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type TestDatabase, testDatabase } from '@baton/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadMigrations } from '../node.ts';
import { openSql, type Sql } from './connection.ts';
import { type Migration, type MigrationResult, migrate, SchemaMismatch } from './migrate.ts';

const shipped = loadMigrations();
const versions = shipped.map((m) => m.version);
const newest = Math.max(...versions);

let database: TestDatabase;
let opened: Sql[] = [];

beforeEach(async () => {
  database = await testDatabase();
});
afterEach(async () => {
  await Promise.all(opened.map((sql) => sql.end({ timeout: 5 })));
  opened = [];
  await database.drop();
});

function connect(max = 1): Sql {
  const sql = openSql(database.url, { max });
  opened.push(sql);
  return sql;
}

async function ledger(sql: Sql): Promise<number[]> {
  const rows = await sql.unsafe('select version from public.baton_migrations order by version');
  return rows.map((r) => r.version as number);
}

const exists = async (sql: Sql, table: string) =>
  (await sql.unsafe('select to_regclass($1) is not null as there', [table]))[0]!.there as boolean;

const next = (text: string): Migration => ({
  version: newest + 1,
  name: `000${newest + 1}_it's.sql`,
  sql: text,
  hash: `of ${text}`,
});

describe('migrate', () => {
  it('applies everything to an empty database and nothing to a migrated one', async () => {
    const sql = connect();
    expect(await migrate(sql, shipped)).toEqual({ applied: versions, version: newest });
    expect(await migrate(sql, shipped)).toEqual({ applied: [], version: newest });
    expect(await ledger(sql)).toEqual(versions);
  });

  it('applies once when three pools of one process begin at the same moment', async () => {
    const results = await Promise.all([connect(), connect(), connect()].map((sql) => migrate(sql, shipped)));
    expect(results.map((r) => r.applied).sort()).toEqual([[], [], versions]);
    expect(await ledger(connect())).toEqual(versions);
  });

  it('applies once when three processes begin at the same moment', async () => {
    const script = fileURLToPath(new URL('./migrate-process.fixture.ts', import.meta.url));
    const processes = Array.from({ length: 3 }, () => {
      const child = spawn(process.execPath, [script, database.url], { stdio: ['pipe', 'pipe', 'inherit'] });
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      return { child, lines, ended };
    });
    try {
      for (const { lines } of processes) expect((await lines.next()).value).toBe('connected');
      for (const { child } of processes) child.stdin.write('go\n');
      const results: MigrationResult[] = [];
      for (const { lines } of processes) results.push(JSON.parse((await lines.next()).value as string));
      expect(results.map((r) => r.applied).sort()).toEqual([[], [], versions]);
      expect(await Promise.all(processes.map((p) => p.ended))).toEqual([0, 0, 0]);
    } finally {
      for (const { child } of processes) child.kill('SIGKILL');
    }
  });

  it('refuses a migration that was edited after it was applied, and leaves the database alone', async () => {
    const sql = connect();
    await migrate(sql, shipped);
    const edited = [{ ...shipped[0]!, hash: 'another' }, ...shipped.slice(1), next('create table public.later ()')];
    await expect(migrate(sql, edited)).rejects.toThrow(SchemaMismatch);
    expect(await exists(sql, 'public.later')).toBe(false);
    expect(await ledger(sql)).toEqual(versions);
  });

  it('refuses a database that a newer Baton has migrated', async () => {
    const sql = connect();
    await migrate(sql, [...shipped, next('create table public.later ()')]);
    await expect(migrate(sql, shipped)).rejects.toThrow(/start a newer Baton/);
    await expect(migrate(sql, shipped)).rejects.toBeInstanceOf(SchemaMismatch);
  });

  it('takes what a newer Baton has migrated where that says so, and only that', async () => {
    const sql = connect();
    const gentle = next(`-- works with: ${newest}\ncreate table public.later ()`);
    const harsh = { ...next('create table public.latest ()'), version: newest + 2, name: 'harsh.sql' };
    await migrate(sql, [...shipped, gentle]);
    expect(await migrate(connect(), shipped)).toEqual({ applied: [], version: newest + 1 });
    await expect(migrate(connect(), shipped.slice(0, -1))).rejects.toBeInstanceOf(SchemaMismatch);
    await migrate(sql, [...shipped, gentle, harsh]);
    await expect(migrate(connect(), shipped)).rejects.toThrow(/harsh\.sql.*start a newer Baton/);
    expect(await migrate(connect(), [...shipped, gentle, harsh])).toMatchObject({ version: newest + 2 });
  });

  it('says of this version that the one before goes on working with it', async () => {
    const sql = connect();
    await migrate(sql, shipped);
    const rows = await sql.unsafe('select version, works_with from public.baton_migrations order by version');
    expect(rows.map((r) => [r.version, r.works_with])).toEqual(shipped.map((m, i) => [m.version, i === 0 ? null : 1]));
  });

  it('goes on from the ledger that version 1 left', async () => {
    const sql = connect();
    await migrate(sql, shipped.slice(0, 1));
    await sql.unsafe('alter table public.baton_migrations drop column works_with');
    expect(await migrate(sql, shipped)).toEqual({ applied: versions.slice(1), version: newest });
  });

  it.each([
    ['a statement that fails', 'select 1 / 0', /division by zero/],
    ['its connection cut', 'select pg_terminate_backend(pg_backend_pid())', /terminat|closed/i],
  ])('undoes a migration with %s, keeps those before it, and goes on when it is mended', async (_, fault, message) => {
    const sql = connect();
    const broken = next(`create table public.half (a integer); insert into public.half values (1); ${fault}`);
    await expect(migrate(sql, [...shipped, broken])).rejects.toThrow(message);
    const other = connect();
    expect(await ledger(other)).toEqual(versions);
    expect(await exists(other, 'public.half')).toBe(false);
    expect(await exists(other, 'baton.tasks')).toBe(true);
    // The lock is free again, and the connection is in no transaction.
    expect((await migrate(other, [...shipped, next('create table public.half (a integer)')])).applied).toEqual([
      newest + 1,
    ]);
    expect(await exists(sql, 'public.half')).toBe(true);
  });

  it('leaves nothing of Baton behind when the first migration fails', async () => {
    const sql = connect();
    const broken = { ...shipped[0]!, sql: `${shipped[0]!.sql}; select 1 / 0` };
    await expect(migrate(sql, [broken])).rejects.toThrow(/division by zero/);
    expect(await sql.unsafe(`select nspname from pg_namespace where nspname = 'baton'`)).toHaveLength(0);
    expect((await migrate(sql, shipped)).applied).toEqual(versions);
  });

  it('asks for a pool of one connection, whose lock and work belong together', async () => {
    await expect(migrate(connect(2), shipped)).rejects.toBeInstanceOf(RangeError);
  });

  it('makes partitions for this week and the next four, and none twice', async () => {
    const sql = connect();
    await migrate(sql, shipped);
    const count = async () =>
      (await sql.unsafe(`select count(*)::integer as n from pg_inherits where inhparent = 'baton.tasks'::regclass`))[0]!
        .n;
    expect(await count()).toBe(5);
    expect((await sql.unsafe('select baton.ensure_partitions() as made'))[0]!.made).toBe(0);
    expect((await sql.unsafe('select baton.ensure_partitions(6) as made'))[0]!.made).toBe(16);
    expect(await count()).toBe(7);
  });
});

describe('the role baton_readonly', () => {
  it('reads every table and view, partitions of later weeks too, and writes none', async () => {
    const sql = connect();
    await migrate(sql, shipped);
    await sql.unsafe('select baton.ensure_partitions(6)');
    const relations = (
      await sql.unsafe(
        `select format('baton.%I', relname) as name, relkind::text as kind from pg_class where relnamespace = 'baton'::regnamespace and relkind in ('r', 'p', 'v')`,
      )
    ).map((r) => ({ name: r.name as string, kind: r.kind as string }));
    expect(relations.length).toBeGreaterThan(25);
    await sql.unsafe('set role baton_readonly');
    for (const { name } of relations) await sql.unsafe(`select * from ${name} limit 1`);
    const writes = relations
      .filter(({ kind }) => kind !== 'v')
      .flatMap(({ name }) => [`insert into ${name} default values`, `delete from ${name}`, `truncate ${name}`]);
    writes.push('select baton.ensure_partitions(9)', 'create table baton.mine (a integer)', 'drop table baton.sweeps');
    for (const write of writes) {
      const refused = await sql.unsafe(write).then(
        () => `${write}: allowed`,
        (error: { code?: string }) => error.code,
      );
      expect(refused).toBe('42501');
    }
  });
});
