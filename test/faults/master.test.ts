import { createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;

/** A chain and a fan of nodes that take a moment each. */
function workflow(dir: string) {
  const node = (needs: string[]) => ({ task: 'short', input: { dir }, needs });
  return {
    name: 'chain-and-fan',
    nodes: {
      a: node([]),
      b: node(['a']),
      c: node(['b']),
      left: node(['c']),
      right: node(['c']),
      middle: { task: 'hold', input: { dir }, needs: ['c'] },
      end: node(['left', 'right', 'middle']),
    },
  };
}

test.concurrent('a master is killed and comes back under a run and 500 tasks: all end, none twice, nothing is reclaimed', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 2, env: { BATON_LEASE_TTL_MS: '8000', BATON_HEARTBEAT_MS: '500' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url, retry: { reconnectMs: 60_000 } });

  await baton.workflows.apply(workflow(stage.dir));
  const run = await baton.runs.start('chain-and-fan');
  const held = await Promise.all(
    Array.from({ length: 3 }, () => baton.submit({ kind: 'hold', input: { dir: stage.dir, gate: 'held' } })),
  );
  await stage.until('start', 3);
  const tasks = await Promise.all(
    Array.from({ length: 500 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir } })),
  );
  for (const share of [100, 250]) {
    await stage.until('end', share);
    await stack.master.restart();
  }
  stage.open('held');
  stage.open();
  await until(async () => (await ledger.ended()) === 510, 'all tasks to end');
  expect((await run.result()).nodes.map(({ state, attempts }) => `${state} ${attempts}`)).toEqual(
    Array.from({ length: 7 }, () => 'succeeded 1'),
  );
  expect(await ledger.problems([...held, ...tasks].map(({ id }) => id))).toEqual([]);
  const all = [...(await ledger.tasks()).values()];
  expect(all).toHaveLength(510);
  expect(all.filter(({ attempt }) => attempt !== 1)).toEqual([]);
  const lost = all
    .flatMap(({ attempts }) => attempts)
    .filter(({ state }) => state !== 'succeeded' && state !== 'returned');
  expect(lost).toEqual([]);
  // What ran while the master was away ran on: the workers are the same, and so are their sessions.
  for (const task of held) expect(await task.result()).toMatchObject({ epoch: 1 });
  const [sessions] = await ledger.sql`select count(*)::int as count from baton.sessions`;
  expect(sessions!.count).toBe(2);
});

test.concurrent('a worker whose master is away when it has something to say says it when the master is back', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env: { BATON_LEASE_TTL_MS: '8000', BATON_HEARTBEAT_MS: '500' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url, retry: { reconnectMs: 60_000 } });
  const task = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);
  await stack.master.kill();
  stage.open();
  await stage.until('end', 1);
  await stack.master.restart();
  expect(await task.result()).toMatchObject({ epoch: 1 });
  expect(await ledger.problems([task.id])).toEqual([]);
});

test.concurrent('a master that stands still for longer than a lease expires nobody: what was finished counts, the rest costs nothing', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env: { BATON_LEASE_TTL_MS: '6000' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const finishing = await baton.submit({ kind: 'hold', input: { dir: stage.dir, gate: 'finishing' } });
  const running = await baton.submit({ kind: 'hold', input: { dir: stage.dir }, retry: { maxAttempts: 1 } });
  await stage.until('start', 2);
  await stack.master.kill('SIGSTOP');
  stage.open('finishing');
  await stage.until('end', 1);
  // A worker that hears from nobody stops what it runs before its lease is over.
  await stage.until('aborted', 1, running.id);
  await until(async () => {
    const [row] = await ledger.sql`
      select bool_and(expires_at < clock_timestamp() - interval '2 s') as over from baton.sessions`;
    return row!.over;
  }, 'the sessions to be over');
  await stack.master.kill('SIGCONT');
  expect(await finishing.result()).toMatchObject({ epoch: 1 });
  await stage.until('start', 3);
  stage.open();
  expect(await running.result()).toMatchObject({ epoch: 2 });
  expect((await running.status()).attempts).toMatchObject([
    { number: 1, state: 'returned' },
    { number: 1, state: 'succeeded' },
  ]);
  expect(stack.master.log).not.toContain('session expired');
  expect(await ledger.problems([finishing.id, running.id])).toEqual([]);
});
