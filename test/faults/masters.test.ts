import { createBaton } from '@baton/client';
import { testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;

/** Three masters, started at once on one empty database, with a worker each: w0, w1, w2. */
async function three(stage: Stage) {
  const database = stage.own(await testDatabase());
  const stacks = await Promise.all(
    [0, 1, 2].map((n) =>
      stage.start({
        databaseUrl: database.url,
        workers: [{ name: `w${n}` }],
        env: { BATON_LEASE_TTL_MS: '4000' },
      }),
    ),
  );
  const batons = stacks.map(({ url }) => createBaton({ url }));
  return { stacks, batons, ledger: stage.own(openLedger(database.url)) };
}

test('three masters on one empty database: one migrates, each does the work of the others, and lost leases are requeued once', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { stacks, batons, ledger } = await three(stage);
  // One of them applied every migration there is; the others found nothing to do.
  expect(stacks.filter(({ master }) => master.log.includes('schema migrated')).length).toBe(1);
  const nodes = await ledger.sql`select node from baton.masters`;
  expect(new Set(nodes.map(({ node }) => node)).size).toBe(3);

  // Submitted at one, done by a worker of another.
  const across = await Promise.all(
    batons.map((baton, n) =>
      baton.submit({ kind: 'quick', input: { dir: stage.dir }, tags: [`worker:w${(n + 1) % 3}`] }),
    ),
  );
  for (const [n, task] of across.entries()) {
    expect(await task.result()).toBe('x');
    expect((await task.status()).worker).toBe(`w${(n + 1) % 3}`);
  }

  // A cancel at one master reaches the worker of another with its next heartbeat.
  const cancelled = await batons[0]!.submit({ kind: 'hold', input: { dir: stage.dir }, tags: ['worker:w1'] });
  await stage.until('start', 1, cancelled.id);
  const asked = performance.now();
  await cancelled.cancel('not needed');
  await stage.until('aborted', 1, cancelled.id);
  expect(performance.now() - asked).toBeLessThan(10_000);
  await expect(cancelled.result()).rejects.toThrow('not needed');

  // A worker dies: all three masters sweep, one of them requeues.
  const many = await Promise.all(
    Array.from({ length: 4 }, () =>
      batons[0]!.submit({ kind: 'hold', input: { dir: stage.dir }, tags: ['worker:w0'] }),
    ),
  );
  await Promise.all(many.map(({ id }) => stage.until('start', 1, id)));
  const [dying] = stacks[0]!.workers;
  await dying!.kill();
  dying!.relaunch();
  await Promise.all(many.map(({ id }) => stage.until('start', 2, id)));
  stage.open();
  for (const task of many) expect(await task.result()).toMatchObject({ epoch: 2 });
  expect(await ledger.problems([...across, ...many].map(({ id }) => id))).toEqual([]);
  const tasks = await ledger.tasks();
  for (const { id } of many) expect(tasks.get(id)!.attempts.map(({ state }) => state)).toEqual(['lost', 'succeeded']);
  const requeued = stacks.flatMap(({ master }) => [...master.log.matchAll(/ended session taken back .*leases=(\d+)/g)]);
  expect(requeued.reduce((sum, [, leases]) => sum + Number(leases), 0)).toBe(4);
});

test('one of three masters dies under load: the others go on, its worker waits for it, and everything ends once', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { stacks, batons, ledger } = await three(stage);
  const submits = await Promise.all(
    batons.flatMap((baton) =>
      Array.from({ length: 100 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir } })),
    ),
  );
  await stage.until('end', 50);
  await stacks[0]!.master.kill();
  await until(async () => (await ledger.ended()) === 300, 'all tasks to end without the dead master');
  expect(await ledger.problems(submits.map(({ id }) => id))).toEqual([]);
  await stacks[0]!.master.restart();
  const task = await batons[0]!.submit({ kind: 'quick', input: { dir: stage.dir }, tags: ['worker:w0'] });
  expect(await task.result()).toBe('x');
});
