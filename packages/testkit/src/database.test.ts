import { migrate, openSql } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import postgres from 'postgres';
import { expect, test } from 'vitest';
import { startTestPostgres, testDatabase } from './database.ts';

test('two test databases share nothing, and are gone after drop', async () => {
  const one = await testDatabase();
  const two = await testDatabase();
  const first = postgres(one.url, { max: 1 });
  const second = postgres(two.url, { max: 1 });
  try {
    await first`CREATE TABLE seen (id int)`;
    const [found] = await second`SELECT to_regclass('seen') AS name`;
    expect(found?.name).toBeNull();

    await second.end();
    await one.drop(); // with a session still open
    const [left] = await countDatabases(two.url, new URL(one.url).pathname.slice(1));
    expect(left?.count).toBe(0);
  } finally {
    await Promise.all([first.end({ timeout: 0 }), one.drop(), two.drop()]);
  }
});

test('await using drops the database at the end of the block', async () => {
  await using outer = await testDatabase();
  let name: string;
  {
    await using inner = await testDatabase();
    name = new URL(inner.url).pathname.slice(1);
    expect((await countDatabases(outer.url, name))[0]?.count).toBe(1);
  }
  expect((await countDatabases(outer.url, name))[0]?.count).toBe(0);
});

test('a migrated database is what migrations make of an empty one, with a history and a clock of its own', async () => {
  await using one = await testDatabase({ migrated: true });
  await using two = await testDatabase({ migrated: true });
  const first = openSql(one.url, { max: 1 });
  const second = openSql(two.url, { max: 1 });
  try {
    expect((await migrate(first, loadMigrations())).applied).toEqual([]);
    const logs = await Promise.all([first, second].map((sql) => sql.unsafe('select log_id from baton.event_log')));
    expect(new Set(logs.map(([row]) => row?.log_id)).size).toBe(2);
    const swept = await second.unsafe(
      "select name, last_at > clock_timestamp() - interval '10 s' as now from baton.sweeps",
    );
    expect(swept).toContainEqual({ name: 'sessions', now: true });
    expect(swept).toContainEqual({ name: 'retention', now: false });
  } finally {
    await Promise.all([first.end({ timeout: 0 }), second.end({ timeout: 0 })]);
  }
});

test('a server of a test of its own crashes and comes back on its port with all that was committed', async () => {
  const server = await startTestPostgres({ settings: { fsync: 'on', full_page_writes: 'on', max_connections: 20 } });
  try {
    const before = postgres(server.url, { max: 1, onnotice: () => {} });
    await before`CREATE TABLE kept (id int)`;
    await before`INSERT INTO kept VALUES (1)`;
    const { pid } = server;
    await server.restart();
    expect(server.pid).not.toBe(pid);
    await before.end({ timeout: 0 });
    const after = postgres(server.url, { max: 1 });
    expect(await after`SELECT id FROM kept`).toEqual([{ id: 1 }]);
    await after.end();
  } finally {
    await server.stop();
  }
});

async function countDatabases(url: string, name: string) {
  const sql = postgres(url, { max: 1 });
  try {
    return await sql`SELECT count(*)::int AS count FROM pg_database WHERE datname = ${name}`;
  } finally {
    await sql.end();
  }
}
