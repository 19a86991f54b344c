import { createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;
/** What a loaded machine keeps. */
const env = { BATON_LEASE_TTL_MS: '30000', BATON_HEARTBEAT_MS: '2000' };

test.concurrent('a task that no worker takes in time fails for good, soon after, also when the master was away at that moment', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start();
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url, retry: { reconnectMs: 60_000 } });
  const asked = performance.now();
  const late = await baton.submit({
    kind: 'quick',
    input: { dir: stage.dir },
    tags: ['nobody'],
    scheduleToStartTimeoutMs: 600,
  });
  await expect(late.result()).rejects.toMatchObject({
    message: expect.stringContaining('not started within 600 ms: no worker took it'),
  });
  expect(performance.now() - asked).toBeGreaterThan(600);
  expect(performance.now() - asked).toBeLessThan(5_000);
  expect(await late.status()).toMatchObject({ state: 'failed', attempts: [], failure: { type: 'TASK_TIMEOUT' } });

  // One that is taken in time ends well, and its time is forgotten.
  const taken = await baton.submit({ kind: 'quick', input: { dir: stage.dir }, scheduleToStartTimeoutMs: 60_000 });
  expect(await taken.result()).toBe('x');

  const meanwhile = await baton.submit({
    kind: 'quick',
    input: { dir: stage.dir },
    tags: ['nobody'],
    scheduleToStartTimeoutMs: 1_500,
  });
  await stack.master.kill();
  const [left] = await ledger.sql`
    select extract(epoch from expires_at - clock_timestamp()) as s from baton.start_deadlines where task_id = ${meanwhile.id}`;
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, Number(left!.s) * 1_000)));
  await stack.master.restart();
  await expect(meanwhile.result()).rejects.toThrow('not started within 1500 ms');
  expect(await ledger.problems([late, taken, meanwhile].map(({ id }) => id))).toEqual([]);
});

test.concurrent('a task that gives no sign any more is ended, one that gives signs is not, and what it says is seen', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const retry = { maxAttempts: 2, initialDelayMs: 1 };
  const input = { dir: stage.dir, everyMs: 100 };
  const hangs = await baton.submit({
    kind: 'fade',
    input: { ...input, signs: 3 },
    retry,
    progressTimeoutMs: 2_000,
  });
  const goesOn = await baton.submit({
    kind: 'fade',
    input: { ...input, signs: 1_000, gate: 'end' },
    progressTimeoutMs: 2_000,
  });
  await until(async () => {
    const [said] = await ledger.sql`select fraction, message from baton.progress where task_id = ${goesOn.id}`;
    return said?.fraction > 0 && /^sign \d+ of 1000$/.test(said?.message);
  }, 'its progress to be seen');
  await expect(hangs.result()).rejects.toThrow('no sign for 2000 ms');
  const { attempts } = await hangs.status();
  expect(attempts.map(({ state, failure }) => [state, failure?.type])).toEqual([
    ['failed', 'TASK_TIMEOUT'],
    ['failed', 'TASK_TIMEOUT'],
  ]);
  // Three signs, each 100 ms after the other, and only then the silence: the worker ended it, with its signal.
  expect(stage.effects('aborted', hangs.id)).toHaveLength(2);
  stage.open('end');
  expect(await goesOn.result()).toBe(1);
  expect(await ledger.problems([hangs, goesOn].map(({ id }) => id))).toEqual([]);
  await until(
    async () => (await ledger.sql`select from baton.progress`).length === 0,
    'signs of ended tasks to be forgotten',
  );
});

test.concurrent('a task that blocks its worker for ever while heartbeats go on is taken away: by its silence, or by its time', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env, workers: 2, workerEnv: { BATON_WORKER_SLOTS: '1' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const retry = { maxAttempts: 1 };
  const input = { dir: stage.dir, ms: 100_000 };
  const asked = performance.now();
  const [silent, overdue] = await Promise.all([
    baton.submit({ kind: 'block', input, retry, progressTimeoutMs: 1_000, tags: ['worker:w1'] }),
    baton.submit({ kind: 'block', input, retry, startToCloseTimeoutMs: 1_000, tags: ['worker:w2'] }),
  ]);
  await expect(silent.result()).rejects.toThrow('no sign for 1000 ms');
  await expect(overdue.result()).rejects.toThrow('not ended 1000 ms after its start');
  // A second, two heartbeats of two seconds, the grace of two seconds, and the sweep.
  expect(performance.now() - asked).toBeGreaterThan(6_500);
  expect(performance.now() - asked).toBeLessThan(60_000);
  for (const task of [silent, overdue])
    expect((await task.status()).attempts).toMatchObject([{ state: 'failed', failure: { type: 'TASK_TIMEOUT' } }]);
  // Both live and say so: nothing was taken because of a lost session.
  const sessions = await ledger.sql`select state from baton.sessions where expires_at > clock_timestamp()`;
  expect(sessions.map(({ state }) => state)).toEqual(['active', 'active']);
  expect(stack.master.log).not.toContain('session expired');
  expect(stack.master.log.match(/task ended in the place of its worker/g)).toHaveLength(2);
  expect(await ledger.problems([silent.id, overdue.id])).toEqual([]);
});

test.concurrent('work that ended in time, while its master was away for longer than its time, is not late', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url, retry: { reconnectMs: 60_000 } });
  const task = await baton.submit({
    kind: 'hold',
    input: { dir: stage.dir },
    startToCloseTimeoutMs: 3_000,
    progressTimeoutMs: 3_000,
    retry: { maxAttempts: 1 },
  });
  await stage.until('start', 1);
  await until(async () => (await ledger.sql`select from baton.progress`).length === 1, 'its sign to be known');
  await stack.master.kill('SIGSTOP');
  stage.open();
  await stage.until('end', 1);
  // Longer than its time and all graces, and an outage for those who sweep.
  await new Promise((resolve) => setTimeout(resolve, 12_000));
  await stack.master.kill('SIGCONT');
  expect(await task.result()).toMatchObject({ epoch: 1 });
  expect((await task.status()).attempts).toMatchObject([{ state: 'succeeded' }]);
  expect(await ledger.problems([task.id])).toEqual([]);
});
