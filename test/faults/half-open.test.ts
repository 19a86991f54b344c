import { createBaton } from '@baton/client';
import { startFaultProxy, testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

const timeout = 60_000;

test.concurrent('all connections of a master to Postgres are dead without saying so: it makes new ones, and nothing was lost', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const database = stage.own(await testDatabase());
  const direct = new URL(database.url);
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(direct.port) }, protocol: 'postgres' }));
  const through = new URL(database.url);
  through.hostname = '127.0.0.1';
  through.port = String(proxy.port);
  const stack = await stage.start({ databaseUrl: through.href, env: { BATON_LEASE_TTL_MS: '20000' } });
  const ledger = stage.own(openLedger(database.url));
  const baton = createBaton({ url: stack.url });
  const running = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);
  const read = await baton.tasks.list({ limit: 10 }).all();
  expect(read).toHaveLength(1);

  proxy.blackHole();
  const since = performance.now();
  const waiting = Array.from({ length: 5 }, () =>
    baton.submit({ kind: 'short', input: { dir: stage.dir }, idempotencyKey: crypto.randomUUID(), timeoutMs: 30_000 }),
  );
  const tasks = await Promise.all(waiting);
  await Promise.all(tasks.map((task) => task.result()));
  stage.open();
  // In the first life of the task: it is found out within the time of a lease.
  expect(await running.result()).toMatchObject({ epoch: 1 });
  expect(performance.now() - since).toBeLessThan(20_000);
  expect(stack.master.log).toContain('Postgres left calls without an answer');
  expect(await ledger.problems([running.id, ...tasks.map(({ id }) => id)])).toEqual([]);
  const attempts = [...(await ledger.tasks()).values()].flatMap((task) => task.attempts);
  expect(attempts.filter(({ state }) => state === 'lost')).toEqual([]);
});

test.concurrent('a proxy that cuts idle streams: polls, watches and waits go on, nothing stays behind or comes twice', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  // Of several heartbeats, each of which may be cut: on a loaded machine they take long.
  const stack = await stage.start({ workers: 0, env: { BATON_LEASE_TTL_MS: '8000' } });
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } }));
  await stack.addWorker({ env: { BATON_URL: proxy.url } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: proxy.url });
  const first = await baton.submit({ kind: 'hold', input: { dir: stage.dir, gate: 'first' } });
  await stage.until('start', 1);
  const states: string[] = [];
  const watching = (async () => {
    for await (const { state } of first.watch()) states.push(state);
  })();
  const result = first.result();
  // Nothing is said for longer than the proxy keeps a silent connection, again and again.
  let cuts = 0;
  const cutting = setInterval(() => {
    cuts += proxy.reset();
  }, 700);
  stage.own({
    async [Symbol.asyncDispose]() {
      clearInterval(cutting);
    },
  });
  await until(() => cuts >= 12, 'idle connections to be cut');
  stage.open('first');
  expect(await result).toMatchObject({ epoch: 1 });
  await watching;
  expect(states.at(-1)).toBe('succeeded');
  expect(states.filter((state) => state === 'succeeded')).toHaveLength(1);
  // And again, with work that comes while nobody is connected.
  const second = await baton.submit({
    kind: 'short',
    input: { dir: stage.dir },
    idempotencyKey: 'second',
    timeoutMs: 20_000,
  });
  await second.result();
  clearInterval(cutting);
  expect(await ledger.problems([first.id, second.id])).toEqual([]);
  const [leases] = await ledger.sql`select count(*)::int as count from baton.leases`;
  expect(leases!.count).toBe(0);
  for (const { attempt } of (await ledger.tasks()).values()) expect(attempt).toBe(1);
});
