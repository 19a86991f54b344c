import { createBaton } from '@baton/client';
import { type Child, testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;
/** Long enough for a loaded machine to be quicker. */
const LEASE_TTL_MS = 8_000;
/** Longer than a lease. */
const AWAY_MS = 10_000;

/** Two masters of one database, and a worker that knows both. */
async function two(stage: Stage) {
  const database = stage.own(await testDatabase());
  // Polls outlast the test, so that nothing is found out by the end of one.
  const env = { BATON_LONG_POLL_MS: '60000', BATON_LEASE_TTL_MS: String(LEASE_TTL_MS) };
  const start = () => stage.start({ databaseUrl: database.url, workers: 0, env });
  const [one, other] = await Promise.all([start(), start()]);
  const worker = await one.addWorker({ name: 'w1', env: { BATON_URL: `${one.url},${other.url}` } });
  const ledger = stage.own(openLedger(database.url));
  const masters = [one.master, other.master];
  const masterOf = async (): Promise<{ used: Child; spare: Child }> => {
    const status = await fetch(`${worker.url}/baton.v1.WorkerService/GetStatus`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    const { masterUrl } = (await status.json()) as { masterUrl: string };
    const used = masters.find(({ url }) => url === masterUrl)!;
    return { used, spare: masters.find((each) => each !== used)! };
  };
  /** By the clock that leases count by. */
  const pass = async (ms: number) => {
    const [{ until: end }] = (await ledger.sql`
      select clock_timestamp() + ${ms} * interval '1 millisecond' as until`) as unknown as [{ until: Date }];
    await until(async () => {
      const [row] = await ledger.sql`select clock_timestamp() > ${end} as over`;
      return row!.over === true;
    }, `${ms} ms to pass`);
  };
  /** The worker had one life, lost nothing, and nobody thinks ill of it. */
  const unharmed = async () => {
    const [sessions] = await ledger.sql`select count(*)::int as count from baton.sessions`;
    expect(sessions!.count).toBe(1);
    expect(worker.log).not.toContain('session lost');
    const attempts = [...(await ledger.tasks()).values()].flatMap((task) => task.attempts);
    expect(attempts.filter(({ state }) => state === 'lost')).toEqual([]);
    const breakers = await ledger.sql`select state from baton.breakers where state <> 'closed'`;
    expect(breakers).toHaveLength(0);
  };
  return { worker, ledger, masterOf, pass, unharmed };
}

test('the master of a worker that knows two is killed for longer than the lease: its work goes on in its first attempt', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { worker, ledger, masterOf, pass, unharmed } = await two(stage);
  const { used, spare } = await masterOf();
  const there = createBaton({ url: spare.url });
  const long = await createBaton({ url: used.url }).submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);

  await used.kill();
  const since = performance.now();
  // New work comes by the other master at once, and not when some lease or poll is over.
  const quick = await there.submit({ kind: 'quick', input: { dir: stage.dir } });
  expect(await quick.result()).toBe('x');
  expect(performance.now() - since).toBeLessThan(LEASE_TTL_MS);
  await pass(AWAY_MS);
  expect((await masterOf()).used.url).toBe(spare.url);

  // Back, and now the other one goes.
  await used.restart();
  await spare.kill();
  await pass(AWAY_MS);
  await spare.restart();
  const last = await there.submit({ kind: 'quick', input: { dir: stage.dir } });
  expect(await last.result()).toBe('x');
  stage.open();
  expect(await long.result()).toMatchObject({ epoch: 1, pid: worker.pid });
  expect(await ledger.problems([long.id, quick.id, last.id])).toEqual([]);
  expect((await ledger.tasks()).get(long.id)!.attempts).toMatchObject([{ epoch: 1, attempt: 1, state: 'succeeded' }]);
  await unharmed();
});

test('the master of a worker that knows two stands still for longer than the lease: its work goes on in its first attempt', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { worker, ledger, masterOf, pass, unharmed } = await two(stage);
  const { used, spare } = await masterOf();
  const there = createBaton({ url: spare.url });
  const here = createBaton({ url: used.url });
  const long = await here.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);

  await used.kill('SIGSTOP');
  const since = performance.now();
  const quick = await there.submit({ kind: 'quick', input: { dir: stage.dir } });
  expect(await quick.result()).toBe('x');
  expect(performance.now() - since).toBeLessThan(LEASE_TTL_MS);
  await pass(AWAY_MS);
  await used.kill('SIGCONT');

  // It has a poll of before, by which it may grant what nobody hears of: that comes back, and costs no attempt.
  const many = await Promise.all(
    [here, there].flatMap((baton) =>
      Array.from({ length: 20 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir } })),
    ),
  );
  for (const task of many) await task.result();
  stage.open();
  expect(await long.result()).toMatchObject({ epoch: 1, pid: worker.pid });
  expect(await ledger.problems([long.id, quick.id, ...many.map(({ id }) => id)])).toEqual([]);
  const tasks = await ledger.tasks();
  expect(tasks.get(long.id)!.attempts).toMatchObject([{ epoch: 1, attempt: 1, state: 'succeeded' }]);
  for (const { attempt } of tasks.values()) expect(attempt).toBe(1);
  await unharmed();
});

test('a worker begins with whatever master of its list is there, and leaves by whichever is left', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0 });
  const baton = createBaton({ url: stack.url });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  // Whatever the order that their names give them: all begin, so some began with the one that is not there.
  const names = Array.from({ length: 4 }, (_, n) => `w${n}`);
  const workers = await Promise.all(
    names.map((name) => stack.addWorker({ name, env: { BATON_URL: `http://127.0.0.1:1,${stack.url}` } })),
  );
  expect(workers.filter(({ log }) => log.includes('registration failed')).length).toBeGreaterThan(0);
  const tasks = await Promise.all(
    names.map((name) => baton.submit({ kind: 'quick', input: { dir: stage.dir }, tags: [`worker:${name}`] })),
  );
  for (const task of tasks) expect(await task.result()).toBe('x');
  for (const worker of workers) expect(await worker.kill('SIGTERM')).toMatchObject({ code: 0 });
  const open = await ledger.sql`select 1 from baton.sessions where state <> 'closed'`;
  expect(open).toHaveLength(0);
});
