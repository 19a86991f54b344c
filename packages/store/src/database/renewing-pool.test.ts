import { startFaultProxy, type TestDatabase, testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { openPools, openSql } from './connection.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(async () => {
  await database.drop();
});

async function proxied() {
  const direct = new URL(database.url);
  const proxy = await startFaultProxy({ target: { port: Number(direct.port) }, protocol: 'postgres' });
  const through = new URL(database.url);
  through.hostname = '127.0.0.1';
  through.port = String(proxy.port);
  onTestFinished(() => proxy.close());
  return { proxy, url: through.href };
}

test('a connection that is dead without saying so gives its calls back in time, and the next ones go on new connections', async () => {
  const { proxy, url } = await proxied();
  let silences = 0;
  const sql = openSql(url, { max: 3, answerTimeoutMs: 3_000, onSilence: () => silences++ });
  onTestFinished(() => sql.end({ timeout: 0 }));
  await Promise.all([1, 2, 3].map(() => sql.unsafe('select pg_sleep(0.05)')));
  proxy.blackHole();
  const since = performance.now();
  const lost = await Promise.allSettled([1, 2, 3, 4, 5].map(() => sql.unsafe('select 1')));
  expect(lost.map((each) => each.status === 'rejected' && each.reason.code)).toEqual(
    Array(5).fill('CONNECTION_DESTROYED'),
  );
  // The time for an answer, and 2 s for the last answers of the connections that may live.
  expect(performance.now() - since).toBeLessThan(15_000);
  expect(silences).toBe(1);
  expect((await sql.unsafe('select 7 as n'))[0]!.n).toBe(7);
});

test('a call that is slow and no more than that is answered, also when others take its pool for dead', async () => {
  const sql = openSql(database.url, { max: 2, answerTimeoutMs: 300 });
  onTestFinished(() => sql.end({ timeout: 0 }));
  const [slow] = await sql.unsafe('select 1 as n, pg_sleep(1)');
  expect(slow!.n).toBe(1);
});

test('silence of one pool is taken as that of all: nobody waits for the end of long times elsewhere', async () => {
  const { proxy, url } = await proxied();
  const pools = openPools(url, { hot: 1, lease: 1, api: 1, leaseTtlMs: 1_000 });
  onTestFinished(() => pools.end());
  await Promise.all([pools.hot, pools.lease, pools.api].map((sql) => sql.unsafe('select 1')));
  // Time passes, or the pools were made so recently that they count as new.
  await pools.api.unsafe('select pg_sleep(2.1)');
  proxy.blackHole();
  const waiting = [pools.hot, pools.api].map((sql) => sql.unsafe('select 1').catch((error) => error.code));
  const heartbeat = pools.lease.unsafe('select 1').catch((error) => error.code);
  // 5.5 s for the heartbeat's answer; alone, the other two would wait for 35 s.
  expect(await Promise.all([heartbeat, ...waiting])).toEqual(Array(3).fill('CONNECTION_DESTROYED'));
  await Promise.all([pools.hot, pools.lease, pools.api].map((sql) => sql.unsafe('select 1')));
});

test('while every connection waits for locked rows, further calls are refused at once; heartbeats have a pool of their own', async () => {
  const admin = openSql(database.url, { max: 2 });
  const pools = openPools(database.url, { api: 5 });
  onTestFinished(async () => {
    await pools.end();
    await admin.end({ timeout: 0 });
  });
  await admin.unsafe('create table locked as select 1 as id');
  const holding = admin.unsafe(
    'with held as materialized (select id from locked for update) select pg_sleep(2.5) from held',
  );
  const unlocked = holding.then(() => performance.now());
  while ((await admin.unsafe(`select from pg_locks where relation = 'locked'::regclass and granted`)).length === 0);
  const read = () =>
    pools.api.unsafe('select id from locked for update').then(
      () => 'answered',
      (error) => error.reason,
    );
  const first = Array.from({ length: 40 }, read);
  // A pool that stands still for a moment is only busy.
  const busy = Array.from({ length: 10 }, read);
  await pools.lease.unsafe('select pg_sleep(1.1)');
  const since = performance.now();
  const late = await Promise.all(Array.from({ length: 150 }, read));
  expect(late).toEqual(Array(150).fill('OVERLOADED'));
  expect(performance.now() - since).toBeLessThan(500);
  expect((await pools.lease.unsafe('select 1 as n'))[0]!.n).toBe(1);
  expect(new Set(await Promise.all([...first, ...busy]))).toEqual(new Set(['answered']));
  expect(performance.now()).toBeGreaterThan(await unlocked);
  // What is refused is refused for that time only.
  expect(await read()).toBe('answered');
});
