import { type Baton, createBaton } from '@baton/client';
import type { Stack } from '@baton/testkit';
import { expect, test } from 'vitest';
import { type Ledger, openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;
/** So rare that nothing here comes by a heartbeat. */
const env = { BATON_LEASE_TTL_MS: '60000', BATON_HEARTBEAT_MS: '20000' };

/** A worker (w1) that does short tasks, fetches them ahead, and is then held up by two long ones with 50 short ones in hand. */
async function holdUp(stage: Stage, stack: Stack, ledger: Ledger, baton: Baton, more: object = {}) {
  const input = { dir: stage.dir };
  await Promise.all(Array.from({ length: 600 }, () => baton.submit({ kind: 'quick', input })));
  await until(async () => (await ledger.ended()) === 600, 'w1 to prove that its tasks are short');
  const long = await Promise.all([1, 2].map(() => baton.submit({ kind: 'hold', input, priority: 5 })));
  await Promise.all(long.map(({ id }) => stage.until('start', 1, id)));
  const short = await Promise.all(Array.from({ length: 50 }, () => baton.submit({ kind: 'quick', input, ...more })));
  await until(async () => (await held(ledger)) === 52, `w1 to hold them all, it holds ${await held(ledger)}`);
  expect(stack.workers).toHaveLength(1);
  return { long, short };
}

async function held(ledger: Ledger): Promise<number> {
  const [row] = await ledger.sql`select count(*)::int as count from baton.leases`;
  return row!.count;
}

/** All but the long ones. */
const allEnded = (ledger: Ledger) => until(async () => (await ledger.ended()) === 650, 'the short tasks to end');

test.concurrent('a worker that waits gets what another has fetched and cannot start, within seconds', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env, workerEnv: { BATON_WORKER_SLOTS: '2' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const { long, short } = await holdUp(stage, stack, ledger, baton);
  await stack.addWorker();
  const waits = performance.now();
  await allEnded(ledger);
  // A second of waiting, a sweep, and the work itself; a heartbeat would take twenty.
  expect(performance.now() - waits).toBeLessThan(8_000);
  const tasks = await ledger.tasks();
  for (const { id } of short)
    expect(tasks.get(id)!.attempts).toMatchObject([
      { state: 'returned', worker: 'w1', attempt: 1 },
      { state: 'succeeded', worker: 'w2', attempt: 1 },
    ]);
  // What runs stays where it is.
  stage.open();
  for (const task of long) expect(await task.result()).toMatchObject({ epoch: 1 });
  expect(await ledger.problems([...long, ...short].map(({ id }) => id))).toEqual([]);
});

test.concurrent('the one that waits and the one that holds may be connected to different masters', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env, workerEnv: { BATON_WORKER_SLOTS: '2' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const { long, short } = await holdUp(stage, stack, ledger, baton);
  const other = await stage.start({ env, databaseUrl: stack.databaseUrl, workers: [{ name: 'elsewhere' }] });
  const waits = performance.now();
  await allEnded(ledger);
  expect(performance.now() - waits).toBeLessThan(8_000);
  const tasks = await ledger.tasks();
  for (const { id } of short) expect(tasks.get(id)!.attempts.map(({ worker }) => worker)).toEqual(['w1', 'elsewhere']);
  expect(other.workers[0]!.name).toBe('elsewhere');
  stage.open();
  for (const task of long) expect(await task.result()).toMatchObject({ epoch: 1 });
  expect(await ledger.problems([...long, ...short].map(({ id }) => id))).toEqual([]);
});

test.concurrent('a task that was fetched ahead and not started in time is recalled, and fails where nobody else takes it', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env, workerEnv: { BATON_WORKER_SLOTS: '2' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const { long, short } = await holdUp(stage, stack, ledger, baton, { scheduleToStartTimeoutMs: 3_000 });
  const asked = performance.now();
  await allEnded(ledger);
  expect(performance.now() - asked).toBeLessThan(12_000);
  await expect(short[0]!.result()).rejects.toThrow('not started within 3000 ms');
  const tasks = await ledger.tasks();
  for (const { id } of short)
    expect(tasks.get(id)).toMatchObject({ state: 'failed', attempts: [{ state: 'returned', attempt: 1 }] });
  stage.open();
  for (const task of long) expect(await task.result()).toMatchObject({ epoch: 1 });
  expect(await ledger.problems([...long, ...short].map(({ id }) => id))).toEqual([]);
});
