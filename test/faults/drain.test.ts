import { createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;

/** No load of this machine ends a lease. */
const longLease = { BATON_LEASE_TTL_MS: '20000' };

for (const how of ['SIGTERM', 'the drain call'] as const)
  test.concurrent(`${how} lets a busy worker finish what it runs, take nothing new, and leave`, {
    timeout,
  }, async (context) => {
    await using stage = await openStage(context);
    const stack = await stage.start({ env: { ...longLease, BATON_WORKER_SLOTS: '2' } });
    const ledger = stage.own(openLedger(stack.databaseUrl));
    const baton = createBaton({ url: stack.url });
    const running = await Promise.all([1, 2].map(() => baton.submit({ kind: 'hold', input: { dir: stage.dir } })));
    await stage.until('start', 2);
    const [first] = stack.workers;
    if (how === 'SIGTERM') void first!.kill('SIGTERM');
    else expect(await baton.workers.drain('w1', 'for a test')).toEqual({ leases: 2 });
    await until(async () => (await baton.workers.list().all())[0]?.state === 'draining', 'the worker to drain');
    const later = await baton.submit({ kind: 'quick', input: { dir: stage.dir } });
    await stack.addWorker();
    expect(await later.result()).toBe('x');
    expect((await later.status()).worker).toBe('w2');
    expect(first!.running).toBe(true);
    stage.open();
    for (const task of running) expect(await task.result()).toMatchObject({ epoch: 1, pid: first!.pid });
    expect(await first!.exited).toEqual({ code: 0, signal: null });
    expect(await ledger.problems([later.id, ...running.map(({ id }) => id)])).toEqual([]);
    const states = await ledger.sql`select state from baton.sessions order by id`;
    expect(states.map(({ state }) => state)).toEqual(['closed', 'active']);
  });

test.concurrent('a drain whose grace is short hands back what runs, at no cost, and another finishes it', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({
    workers: 2,
    env: { ...longLease, BATON_DRAIN_GRACE_MS: '200', BATON_WORKER_SLOTS: '2' },
  });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const task = await baton.submit({ kind: 'hold', input: { dir: stage.dir }, retry: { maxAttempts: 1 } });
  const [started] = await stage.until('start', 1);
  const drained = stack.workers.find(({ pid }) => pid === started!.pid)!;
  const other = stack.workers.find(({ pid }) => pid !== started!.pid)!;
  expect(await drained.kill('SIGTERM')).toEqual({ code: 0, signal: null });
  expect(stage.effects('aborted')).toHaveLength(1);
  await stage.until('start', 2);
  stage.open();
  expect(await task.result()).toMatchObject({ epoch: 2, pid: other.pid });
  const attempts = (await task.status()).attempts.map(({ state, number }) => `${number} ${state}`);
  expect(attempts).toEqual(['1 returned', '1 succeeded']);
  expect(await ledger.problems([task.id])).toEqual([]);
});

test.concurrent('a second life under the same name takes over: the first is told to go, and nothing is done twice', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: [{ name: 'twin' }], env: longLease });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const before = await Promise.all([1, 2].map(() => baton.submit({ kind: 'hold', input: { dir: stage.dir } })));
  await stage.until('start', 2);
  const [first] = stack.workers;
  const second = await stack.addWorker({ name: 'twin' });
  expect(second.pid).not.toBe(first!.pid);
  // Told to hand back what it holds and to leave.
  expect(await first!.exited).toEqual({ code: 0, signal: null });
  stage.open();
  const after = await Promise.all(
    Array.from({ length: 10 }, () => baton.submit({ kind: 'quick', input: { dir: stage.dir } })),
  );
  await Promise.all([...before, ...after].map((task) => task.result()));
  expect(new Set(stage.effects('end').map(({ pid }) => pid))).toEqual(new Set([second.pid]));
  expect(stage.effects('end')).toHaveLength(12);
  expect(stage.effects('aborted')).toHaveLength(2);
  expect(await ledger.problems([...before, ...after].map(({ id }) => id))).toEqual([]);
  const [living] = await ledger.sql`select count(*)::int as count from baton.sessions where state = 'active'`;
  expect(living!.count).toBe(1);
});
