import { BatonError, createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage } from './stage.ts';

const timeout = 120_000;

test.concurrent('a cancel reaches a running task at once when its worker is connected, not with its next heartbeat', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  // Two seconds is what is promised; a loaded machine gets more, but less than a heartbeat would take.
  const stack = await stage.start({ env: { BATON_LEASE_TTL_MS: '60000', BATON_HEARTBEAT_MS: '20000' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const task = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);
  const asked = performance.now();
  expect(await task.cancel('changed my mind')).toBe('leased');
  await stage.until('aborted', 1);
  expect(performance.now() - asked).toBeLessThan(10_000);
  await expect(task.result()).rejects.toThrow('changed my mind');
  expect((await task.status()).attempts).toMatchObject([{ state: 'cancelled', epoch: 1 }]);
  expect(await ledger.problems([task.id])).toEqual([]);
});

test.concurrent('cancels race ends: one end each, the loser is told so, nothing is granted after a cancel', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 2 });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const tasks = await Promise.all(
    Array.from({ length: 300 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir } })),
  );
  // Beside those in the middle of it: one that nobody can have taken, and one that has ended.
  tasks.push(await baton.submit({ kind: 'short', input: { dir: stage.dir }, tags: ['nobody'] }));
  const [ended] = await stage.until('end', 1);
  const answers = await Promise.all(
    tasks.map(async (task) => {
      if (task.id === ended!.taskId) await task.result();
      else await new Promise((resolve) => setTimeout(resolve, 1_000 * Math.random()));
      return task.cancel().then(
        (state) => state as string,
        (error: BatonError) => `${error.code} ${error.reason}`,
      );
    }),
  );
  const ends = await Promise.all(
    tasks.map((task) =>
      task.result().then(
        () => 'succeeded',
        () => 'cancelled',
      ),
    ),
  );
  const pairs = new Map<string, number>();
  for (const [i, answer] of answers.entries()) {
    const pair = `${answer}: ${ends[i]}`;
    pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
  }
  // A worker that was asked too late may have finished: its work stands.
  const allowed = [
    'cancelled: cancelled',
    'leased: cancelled',
    'leased: succeeded',
    'failed_precondition TASK_ENDED: succeeded',
  ];
  expect([...pairs.keys()].filter((pair) => !allowed.includes(pair))).toEqual([]);
  expect(pairs.get('cancelled: cancelled')).toBeGreaterThan(0);
  expect(pairs.get('failed_precondition TASK_ENDED: succeeded')).toBeGreaterThan(0);
  expect(await ledger.problems(tasks.map(({ id }) => id))).toEqual([]);
  const again = await Promise.all(tasks.map((task) => task.cancel().catch((error: BatonError) => error)));
  for (const error of again) expect(error).toMatchObject({ code: 'failed_precondition', reason: 'TASK_ENDED' });
  expect(again[0]).toBeInstanceOf(BatonError);
});
