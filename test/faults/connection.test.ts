import { createBaton } from '@baton/client';
import { startFaultProxy } from '@baton/testkit';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;

/** For what a lease's end has no part in: a loaded machine that lets a heartbeat wait for 3 s is no reason to lose one. */
const longLease = { BATON_LEASE_TTL_MS: '20000' };
/** What its worker never heard of comes back after a lease. */
const mediumLease = { BATON_LEASE_TTL_MS: '8000' };

/** A master, and one worker that reaches it through the proxy. */
async function proxied(stage: Stage, env: Record<string, string> = {}) {
  const stack = await stage.start({ workers: 0, env });
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } }));
  const worker = await stack.addWorker({ env: { BATON_URL: proxy.url } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  return { proxy, worker, ledger, baton: createBaton({ url: stack.url }) };
}

test.concurrent('leases whose answer was lost come back and cost no attempt; every task ends once', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { proxy, ledger, baton } = await proxied(stage, mediumLease);
  // An input of this size in each lease: an answer without leases is never taken for one with.
  const input = { dir: stage.dir, filling: 'x'.repeat(500) };
  const ids: string[] = [];
  for (let round = 0; round < 3; round++) {
    const lost = proxy.loseAnswer({ answerBytes: 500 });
    const tasks = await Promise.all(Array.from({ length: 20 }, () => baton.submit({ kind: 'short', input })));
    await lost;
    await Promise.all(tasks.map((task) => task.result()));
    ids.push(...tasks.map(({ id }) => id));
  }
  expect(await ledger.problems(ids)).toEqual([]);
  const tasks = [...(await ledger.tasks()).values()];
  expect(tasks.filter(({ attempt }) => attempt !== 1)).toEqual([]);
  const returned = tasks.flatMap(({ attempts }) => attempts.slice(0, -1));
  expect(returned.length).toBeGreaterThanOrEqual(3);
  // By the worker's word that it never heard of them, or by the master's that it could not send them in time.
  expect(
    returned.filter(({ state, failure }) => state !== 'returned' || !/never heard|^$/.test(failure ?? '')),
  ).toEqual([]);
  expect(stage.effects('end')).toHaveLength(60);
});

test.concurrent('results whose answer was lost are sent again and taken, with one event each', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { proxy, ledger, baton } = await proxied(stage, longLease);
  const ids: string[] = [];
  for (const gate of ['first', 'second', 'third']) {
    const input = { dir: stage.dir, gate, bytes: 2_000 };
    const tasks = await Promise.all(Array.from({ length: 4 }, () => baton.submit({ kind: 'hold', input })));
    await stage.until('start', ids.length + 4);
    const lost = proxy.loseAnswer({ requestBytes: 2_000 });
    stage.open(gate);
    await lost;
    ids.push(...tasks.map(({ id }) => id));
    for (const task of tasks) {
      const [start, ...again] = stage.effects('start', task.id);
      expect(again).toEqual([]);
      expect(await task.result()).toMatchObject({ epoch: start!.epoch });
    }
  }
  expect(await ledger.problems(ids)).toEqual([]);
  for (const { attempt, attempts } of (await ledger.tasks()).values()) {
    expect(attempt).toBe(1);
    // What was granted into the connection that had just been cut came back before it began.
    expect(attempts.map(({ state }) => state)).toEqual([...attempts.slice(1).map(() => 'returned'), 'succeeded']);
  }
});

test.concurrent('a connection that is dead without saying so is found out; what ran goes on, and so does the queue', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { proxy, worker, ledger, baton } = await proxied(stage, { BATON_LONG_POLL_MS: '1000' });
  const running = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);
  proxy.blackHole();
  // Granted into the hole.
  const queued = await Promise.all(
    Array.from({ length: 10 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir } })),
  );
  await Promise.all(queued.map((task) => task.result()));
  stage.open();
  expect(await running.result()).toMatchObject({ epoch: 1, pid: worker.pid });
  expect(await ledger.problems([running.id, ...queued.map(({ id }) => id)])).toEqual([]);
  const [sessions] = await ledger.sql`select count(*)::int as count from baton.sessions`;
  expect(sessions!.count).toBe(1);
  for (const { attempt } of (await ledger.tasks()).values()) expect(attempt).toBe(1);
});

test.concurrent('a worker that nobody can reach for longer than its lease begins anew, and its work is done once', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { proxy, worker, ledger, baton } = await proxied(stage);
  const task = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);
  proxy.blackHole({ newToo: true });
  await stage.until('aborted', 1);
  await until(async () => (await task.status()).attempts[0]?.state === 'lost', 'the lease to be reclaimed');
  proxy.heal();
  proxy.reset();
  await stage.until('start', 2);
  stage.open();
  expect(await task.result()).toMatchObject({ epoch: 2, pid: worker.pid });
  expect(await ledger.problems([task.id])).toEqual([]);
});

test.concurrent('connections that break again and again lose nothing and do nothing twice', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { proxy, ledger, baton } = await proxied(stage, longLease);
  const tasks = await Promise.all(
    Array.from({ length: 300 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir } })),
  );
  let cuts = 0;
  const breaking = setInterval(() => {
    cuts += proxy.reset();
  }, 400);
  try {
    await Promise.all(tasks.map((task) => task.result()));
  } finally {
    clearInterval(breaking);
  }
  expect(cuts).toBeGreaterThan(3);
  expect(await ledger.problems(tasks.map(({ id }) => id))).toEqual([]);
  const lost = [...(await ledger.tasks()).values()].flatMap((task) => task.attempts.filter((a) => a.state === 'lost'));
  expect(lost).toEqual([]);
});
