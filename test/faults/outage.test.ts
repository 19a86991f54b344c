import { createBaton } from '@baton/client';
import type { Child } from '@baton/testkit';
import { testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 180_000;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Two masters on one database, each with a worker that holds two tasks: w0, w1. */
async function two(stage: Stage, leaseTtlMs: number) {
  const database = stage.own(await testDatabase());
  const env = { BATON_LEASE_TTL_MS: String(leaseTtlMs), BATON_HEARTBEAT_MS: '700', BATON_SWEEP_MS: '200' };
  const stacks = await Promise.all(
    [0, 1].map((n) => stage.start({ databaseUrl: database.url, workers: [{ name: `w${n}` }], env })),
  );
  const ledger = stage.own(openLedger(database.url));
  const baton = createBaton({ url: stacks[1]!.url, retry: { reconnectMs: 60_000 } });
  const held = await Promise.all(
    [0, 0, 1, 1].map((n) => baton.submit({ kind: 'hold', input: { dir: stage.dir }, tags: [`worker:w${n}`] })),
  );
  await stage.until('start', 4);
  const masters = stacks.map(({ master }) => master);
  const states = async () => {
    const tasks = await ledger.tasks();
    return held.map(({ id }) => tasks.get(id)!.attempts.map(({ state }) => state));
  };
  return { masters, ledger, held, states };
}

/** Both stop, and go on one after the other: the first one's sweep sees the gap, the other one's sees the first's. */
async function stopFor(masters: readonly Child[], ms: number): Promise<void> {
  for (const master of masters) await master.kill('SIGSTOP');
  await wait(ms);
  for (const master of masters) {
    await master.kill('SIGCONT');
    await wait(300);
  }
}

function expired(masters: readonly Child[]): number {
  return masters.reduce((sum, { log }) => sum + (log.match(/session expired/g)?.length ?? 0), 0);
}

test.concurrent('all masters stop for more than a third of a lease: everything goes on as it was', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { masters, ledger, held, states } = await two(stage, 12_000);
  await stopFor(masters, 5_000);
  await wait(2_000);
  stage.open();
  for (const task of held) expect(await task.result()).toMatchObject({ epoch: 1 });
  expect(expired(masters)).toBe(0);
  expect(await states()).toEqual(held.map(() => ['succeeded']));
  expect(await ledger.problems(held.map(({ id }) => id))).toEqual([]);
});

test.concurrent('all masters stop for longer than a lease: workers let go of what they hold, no master takes it for lost', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { masters, ledger, held, states } = await two(stage, 6_000);
  await stopFor(masters, 9_000);
  await stage.until('start', 8);
  stage.open();
  const epochs = await Promise.all(held.map(async (task) => ((await task.result()) as { epoch: number }).epoch));
  expect(expired(masters)).toBe(0);
  // Handed back, at no cost; mostly once.
  expect(Math.min(...epochs)).toBeGreaterThanOrEqual(2);
  expect(await states()).toEqual(epochs.map((epoch) => [...Array(epoch - 1).fill('returned'), 'succeeded']));
  expect(await ledger.problems(held.map(({ id }) => id))).toEqual([]);
});

test.concurrent('a master that was stopped beyond every lease, while another went on, closes nobody when it goes on', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { masters, ledger, held, states } = await two(stage, 6_000);
  await masters[0]!.kill('SIGSTOP');
  // Its own worker reaches nobody and is let go, by the other; that one's worker renews.
  await wait(9_000);
  await until(() => expired([masters[1]!]) === 1, "the other's sweep");
  await masters[0]!.kill('SIGCONT');
  await wait(2_000);
  expect([expired([masters[0]!]), expired(masters)]).toEqual([0, 1]);
  stage.open();
  for (const task of held) await task.result();
  // What is granted anew to a worker that is slow to hear of it may go back, at no cost.
  const [first, second, ...others] = await states();
  const again = [first!, second!].map((attempts) => attempts.filter((state) => state !== 'returned'));
  expect([...again, ...others]).toEqual([['lost', 'succeeded'], ['lost', 'succeeded'], ['succeeded'], ['succeeded']]);
  expect(await ledger.problems(held.map(({ id }) => id))).toEqual([]);
});
