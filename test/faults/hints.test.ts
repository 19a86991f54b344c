import { createBaton } from '@baton/client';
import { testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;
/** Masters that look by themselves so rarely that what comes soon comes by a hint. */
const rare = { BATON_SWEEP_MS: '20000', BATON_LEASE_TTL_MS: '120000', BATON_HEARTBEAT_MS: '40000' };

/** Two masters; the only worker (w1) is connected to the second. */
async function two(stage: Stage, env: Record<string, string>) {
  const database = stage.own(await testDatabase());
  const first = await stage.start({ databaseUrl: database.url, workers: 0, env });
  const second = await stage.start({ databaseUrl: database.url, workers: [{ name: 'w1' }], env });
  const ledger = stage.own(openLedger(database.url));
  return { ledger, baton: createBaton({ url: first.url }), second };
}

test.concurrent('what is submitted, cancelled and ended at one master is known at the other at once, not when it looks', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { baton, ledger, second } = await two(stage, rare);
  const input = { dir: stage.dir };
  // The first task of a kind makes a lane that the other master has never heard of.
  const times: number[] = [];
  for (let n = 0; n < 5; n++) {
    const asked = performance.now();
    const task = await baton.submit({ kind: 'quick', input });
    expect(await task.result()).toBe('x');
    times.push(performance.now() - asked);
  }
  expect(Math.max(...times)).toBeLessThan(8_000);

  const held = await baton.submit({ kind: 'hold', input });
  await stage.until('start', 1, held.id);
  const asked = performance.now();
  expect(await held.cancel('by hint')).toBe('leased');
  await stage.until('aborted', 1, held.id);
  await expect(held.result()).rejects.toThrow('by hint');
  expect(performance.now() - asked).toBeLessThan(8_000);

  // Drained by the other master.
  await baton.workers.drain('w1', 'enough');
  await until(() => second.workers[0]!.log.includes('worker drains'), 'the worker to drain', 8_000);
  expect(await ledger.problems([held.id])).toEqual([]);
});

test.concurrent('without hints everything goes on, when the masters look by themselves; and they listen again', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { baton, ledger, second } = await two(stage, { BATON_SWEEP_MS: '500' });
  const input = { dir: stage.dir };
  const listeners = () =>
    ledger.sql`select pid from pg_stat_activity where datname = current_database() and application_name = 'baton listen'`;
  await until(async () => (await listeners()).length === 2, 'both masters to listen');
  let killing = true;
  const killer = (async () => {
    while (killing) {
      await ledger.sql`select pg_terminate_backend(pid) from pg_stat_activity
                       where datname = current_database() and application_name = 'baton listen'`;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) {
    const task = await baton.submit({ kind: 'quick', input });
    ids.push(task.id);
    expect(await task.result()).toBe('x');
  }
  const held = await baton.submit({ kind: 'hold', input });
  await stage.until('start', 1, held.id);
  await held.cancel('no hint');
  await stage.until('aborted', 1, held.id);
  killing = false;
  await killer;
  await until(async () => (await listeners()).length === 2, 'both masters to listen again');
  expect(second.master.log).toContain('hints of other masters are not heard');
  const task = await baton.submit({ kind: 'quick', input });
  expect(await task.result()).toBe('x');
  await expect(held.result()).rejects.toThrow('no hint');
  expect(await ledger.problems([...ids, held.id, task.id])).toEqual([]);
});
