import { type Baton, createBaton } from '@baton/client';
import { FailureType } from '@baton/contract';
import { expect, test } from 'vitest';
import { type Ledger, openLedger } from './ledger.ts';
import { rawWorker } from './raw-worker.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;

/** No load of this machine ends them; those of killed workers are ended by hand. */
const longLease = { BATON_LEASE_TTL_MS: '60000' };

/** Grants to a worker while its breaker was open, and grants beside a probe: there must be none. Times are Postgres's. */
async function grantsAgainstBreakers(ledger: Ledger): Promise<readonly unknown[]> {
  return ledger.sql`
    with turns as (
      select worker_id, to_state as state, at as since, coalesce(lead(at) over (partition by worker_id order by id), 'infinity') as until
      from baton.breaker_changes where device = ''
    ), grants as (
      select worker_id, task_id, granted_at, ended_at from baton.attempts
      union all select s.worker_id, l.task_id, l.granted_at, 'infinity' from baton.leases l join baton.sessions s on s.id = l.session_id
    )
    select g.task_id, t.state from grants g join turns t on t.worker_id = g.worker_id and g.granted_at > t.since and g.granted_at < t.until
    where t.state = 'open' or (t.state = 'half_open' and exists (
      select from grants o where o.worker_id = g.worker_id and o.task_id <> g.task_id and o.granted_at > t.since
        and o.granted_at < g.granted_at and o.ended_at > g.granted_at))`;
}

const stateOf = async (baton: Baton, worker: string) =>
  (await baton.workers.breakers({ worker }))[0]?.state ?? 'closed';

test.concurrent('a machine that crashes with ever other tasks is held back, over restarts, and comes back by two probes', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({
    env: longLease,
    // However long this machine takes to start the other worker.
    masterEnv: { BATON_BREAKER_SOLE_OPEN_MS: '300000' },
  });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url, retry: { reconnectMs: 60_000 } });
  const machine = stack.worker('w1');
  const dir = stage.dir;
  for (let crash = 1; crash <= 3; crash++) {
    expect(await baton.workers.breakers()).toEqual([]);
    // Two tasks at once are lost; they are one failure of the machine.
    const lost = await Promise.all([1, 2].map(() => baton.submit({ kind: 'hold', input: { dir, gate: 'never' } })));
    await Promise.all(lost.map(({ id }) => stage.until('start', 1, id)));
    await machine.kill('SIGKILL');
    await ledger.expire('w1');
    const isReady = async () =>
      (await Promise.all(lost.map((task) => task.status()))).every((t) => t.state === 'ready');
    await until(isReady, 'the sweep');
    for (const task of lost) await task.cancel();
    if (crash < 3) await machine.restart();
  }
  await until(async () => (await stateOf(baton, 'w1')) === 'open', 'the breaker to open');
  expect(await baton.workers.breakers()).toMatchObject([{ worker: 'w1', state: 'open', probeTime: expect.any(Date) }]);
  expect(await baton.system.metrics(['baton_breakers_open'])).toMatchObject([{ value: 1 }]);

  // Neither another life of the worker nor another master forgets it.
  await stack.master.restart();
  await machine.restart();
  const tasks = await Promise.all(Array.from({ length: 5 }, () => baton.submit({ kind: 'short', input: { dir } })));
  await stack.addWorker({ name: 'well', env: { BATON_WORKER_SLOTS: '1' } });
  await Promise.all(tasks.map((task) => task.result()));
  expect((await Promise.all(tasks.map((task) => task.status()))).map(({ worker }) => worker)).toEqual(
    tasks.map(() => 'well'),
  );
  const mine = await Promise.all(
    Array.from({ length: 10 }, () => baton.submit({ kind: 'short', input: { dir }, tags: ['worker:w1'] })),
  );
  // Five minutes go by.
  await ledger.sql`update baton.breakers set changed_at = changed_at - interval '300 s' where state = 'open'`;
  await Promise.all(mine.map((task) => task.result()));
  expect(await stateOf(baton, 'w1')).toBe('closed');

  const changes = await ledger.sql`select from_state, to_state from baton.breaker_changes order by id`;
  expect(changes.map((c) => `${c.from_state} ${c.to_state}`)).toEqual([
    'closed open',
    'open half_open',
    'half_open closed',
  ]);
  expect(await grantsAgainstBreakers(ledger)).toEqual([]);
  expect(await ledger.problems([...tasks, ...mine].map(({ id }) => id))).toEqual([]);
});

test.concurrent('a lone worker that one task kills again and again goes on with the others', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  // Room for all: what is held beside it must not take the slot that it waits for.
  const stack = await stage.start({ env: { ...longLease, BATON_WORKER_SLOTS: '50' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const [machine] = stack.workers;
  const { dir } = stage;
  const bug = await baton.submit({ kind: 'poison', input: { dir }, priority: 10 });
  for (let life = 1; life <= 5; life++) {
    // Others are at work beside it, and are lost with it.
    await Promise.all([1, 2, 3].map(() => baton.submit({ kind: 'hold', input: { dir } })));
    await machine!.exited;
    expect(stage.effects('start', bug.id)).toHaveLength(life);
    await ledger.expire('w1');
    await machine!.restart();
  }
  await expect(bug.result()).rejects.toThrow('5 workers were lost');
  stage.open();
  const all = await baton.tasks.list({ kind: 'hold' }).all();
  await Promise.all(all.map(({ id }) => baton.tasks.handle(id).result()));
  expect(await baton.workers.breakers()).toEqual([]);
});

test.concurrent('a device that fails three tasks is quarantined until somebody closes its breaker, and its worker goes on', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, env: longLease });
  const baton = createBaton({ url: stack.url });
  const retry = { maxAttempts: 1 };
  const gpus = ['GPU-a', 'GPU-b'].map((uuid) => ({ uuid, memoryBytes: 80n * 2n ** 30n }));
  const worker = stage.own(await rawWorker(stack.url, 'two-gpus', { gpus }));
  const failOn = async (device: string) => {
    for (let i = 0; i < 3; i++) {
      await baton.submit({ kind: 'work', taskClass: 'gpu', input: 1, retry });
      const [lease] = await worker.take(1);
      await worker.fail(lease!, { type: FailureType.GPU_ERROR, message: 'Xid 79', device });
    }
    await until(
      async () => (await worker.heartbeat())?.quarantinedDevices.includes(device) ?? false,
      `${device} to go`,
    );
  };
  await failOn('GPU-a');
  expect((await worker.heartbeat())?.quarantinedDevices).toEqual(['GPU-a']);
  expect(await baton.workers.breakers()).toMatchObject([{ worker: 'two-gpus', device: 'GPU-a', state: 'open' }]);
  // The other one goes on, until it fails too; then nothing for GPUs comes, but what needs none does.
  await failOn('GPU-b');
  const gpu = await baton.submit({ kind: 'work', taskClass: 'gpu', input: 1, retry });
  expect(await worker.take(1, 500)).toEqual([]);
  const cpu = await baton.submit({ kind: 'work', input: 1, retry });
  const [lease] = await worker.take(4);
  expect(lease!.taskId).toBe(cpu.id);
  await worker.succeed(lease!);

  await expect(baton.workers.resetBreaker('nobody')).rejects.toMatchObject({ reason: 'WORKER_NOT_FOUND' });
  expect(await baton.workers.resetBreaker('two-gpus', { device: 'GPU-b' })).toEqual({ before: 'open' });
  expect(await baton.workers.resetBreaker('two-gpus', { device: 'GPU-b' })).toEqual({ before: 'closed' });
  await until(async () => !(await worker.heartbeat())?.quarantinedDevices.includes('GPU-b'), 'GPU-b to come back');
  const [again] = await worker.take(1);
  expect(again!.taskId).toBe(gpu.id);
  await worker.succeed(again!);
  expect(await baton.workers.breakers({ includeClosed: true })).toMatchObject([
    { device: 'GPU-a', state: 'open' },
    { device: 'GPU-b', state: 'closed', failures: 0, reason: 'reset by a client' },
  ]);
});

test.concurrent('a worker that is half-open gets one task, and is shut out again when that fails by the machine', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({
    workers: 0,
    env: longLease,
    masterEnv: { BATON_BREAKER_OPEN_MS: '1000', BATON_BREAKER_SUCCESSES: '1' },
  });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const worker = stage.own(await rawWorker(stack.url, 'w'));
  const submit = () => baton.submit({ kind: 'work', input: 1, retry: { maxAttempts: 1 } });
  const network = { type: FailureType.NETWORK_ERROR, message: 'no route to host' };
  for (let i = 0; i < 3; i++) {
    await submit();
    await worker.fail((await worker.take(1))[0]!, network);
  }
  await until(async () => (await stateOf(baton, 'w')) === 'open', 'the breaker to open');
  for (let i = 0; i < 8; i++) await submit();
  let probe = await worker.take(4);
  expect(probe).toHaveLength(1);
  expect(await worker.take(4, 500)).toEqual([]);
  expect((await baton.workers.breakers())[0]).toMatchObject({ state: 'half_open', probeTaskId: probe[0]!.taskId });
  await worker.fail(probe[0]!, network);
  await until(async () => (await stateOf(baton, 'w')) === 'open', 'the breaker to open again');
  // What the task itself does says nothing of the machine: another probe comes.
  probe = await worker.take(4);
  await worker.fail(probe[0]!, { type: FailureType.EVALUATION_ERROR, message: 'no such column' });
  probe = await worker.take(4);
  expect(probe).toHaveLength(1);
  await worker.succeed(probe[0]!);
  await until(async () => (await stateOf(baton, 'w')) === 'closed', 'the breaker to close');
  expect(await worker.take(4)).toHaveLength(4);
  expect(await grantsAgainstBreakers(ledger)).toEqual([]);
});

test.concurrent('a lone worker behind many tasks of one kind that fails is tried with what is well', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, env: longLease, masterEnv: { BATON_BREAKER_SOLE_OPEN_MS: '1000' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const worker = stage.own(await rawWorker(stack.url, 'lone', { kinds: ['buggy', 'well'] }));
  const network = { type: FailureType.NETWORK_ERROR, message: 'no route to the service' };
  const retry = { maxAttempts: 100, initialDelayMs: 10, maxDelayMs: 10 };
  const buggy = await Promise.all(
    Array.from({ length: 6 }, () => baton.submit({ kind: 'buggy', input: 1, retry, priority: 5 })),
  );
  const leases = await worker.take(3);
  expect(leases).toHaveLength(3);
  for (const lease of leases) await worker.fail(lease, network);
  await until(async () => (await stateOf(baton, 'lone')) === 'open', 'the breaker to open');
  const well = await Promise.all([1, 2].map(() => baton.submit({ kind: 'well', input: 1 })));
  for (const task of well) {
    const [probe] = await worker.take(4);
    expect(probe).toMatchObject({ kind: 'well' });
    await worker.succeed(probe!);
    await task.result();
  }
  await until(async () => (await stateOf(baton, 'lone')) === 'closed', 'the breaker to close');
  expect(await grantsAgainstBreakers(ledger)).toEqual([]);
  await Promise.all(buggy.map((task) => task.cancel()));
});
