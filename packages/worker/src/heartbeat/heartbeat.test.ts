import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { FakeMaster, type FakeMasterOptions } from '../testing/fake-master.ts';
import { openWorker } from '../testing/open-worker.ts';

const fast = { leaseTtlMs: 1_000, heartbeatIntervalMs: 200 };

function digestOf(leases: { taskId: string; epoch: number }[]) {
  const xor = leases.reduce((all, { taskId, epoch }) => all ^ BigInt(taskId) ^ (BigInt(epoch) << 40n), 0n);
  return { count: leases.length, xor: BigInt.asUintN(64, xor) };
}

for (const heartbeatInThread of [false, true]) {
  const where = heartbeatInThread ? 'its own thread' : 'the main loop';

  test(`heartbeats from ${where} renew the session and name what is held`, async () => {
    const { master, worker, executor } = await openWorker({ heartbeatInThread, master: fast });
    await worker.start();
    const ids = [master.submit({ kind: 'hold', epoch: 4_000_000_000 }), master.submit({ kind: 'hold', epoch: 7 })];
    for (const id of ids) {
      await executor.running(id);
    }
    const expected = digestOf([
      { taskId: ids[0]!, epoch: 4_000_000_000 },
      { taskId: ids[1]!, epoch: 7 },
    ]);
    await master.until(() => master.heartbeats.at(-1)?.digest?.count === 2);
    const { digest, metrics, number } = master.heartbeats.at(-1)!;
    expect(digest).toMatchObject(expected);
    const earlier = master.heartbeats.slice(0, -1).map((beat) => beat.number);
    expect(earlier.every((other) => other < number)).toBe(true);
    expect(metrics!.running).toBe(2);
    expect(metrics!.memoryPercent).toBeGreaterThan(0);
    executor.holding.get(ids[0]!)!.end();
    executor.holding.get(ids[1]!)!.end();
    await master.until(() => master.heartbeats.at(-1)?.digest?.count === 0);
    expect(master.heartbeats.at(-1)!.digest!.xor).toBe(0n);
    await master.until(() => master.heartbeats.at(-1)?.metrics?.tasksCompleted === 2n);
    expect(master.registrations).toHaveLength(1);
  });

  test(`a master that asks for everything held gets it at once from ${where}`, async () => {
    const { master, worker, executor } = await openWorker({
      heartbeatInThread,
      master: { leaseTtlMs: 30_000, heartbeatIntervalMs: 500 },
    });
    await worker.start();
    const id = master.submit({ kind: 'hold', epoch: 3 });
    await executor.running(id);
    master.wantHeld = 1;
    await master.until(() => master.heartbeats.some(({ heldIsComplete }) => heldIsComplete));
    const at = master.heartbeats.findIndex(({ heldIsComplete }) => heldIsComplete);
    expect(master.heartbeats[at]!.held).toMatchObject([{ taskId: id, epoch: 3, started: true }]);
    expect(at).toBe(master.heartbeats.length - 1);
  });
}

test('a lease that the master calls lost is stopped, and nothing of it is sent', async () => {
  const { master, worker, executor } = await openWorker({ master: fast });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const kept = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  const other = await executor.running(kept);
  master.loseLeases = [{ taskId: id, epoch: 1 }];
  const stopped = once(task.context.signal, 'abort');
  await stopped;
  expect(task.context.signal.reason).toMatchObject({ kind: 'lost' });
  expect(other.context.signal.aborted).toBe(false);
  other.end();
  await master.result(kept);
  expect(master.deliveries.has(id)).toBe(false);
});

test('orders come with heartbeats, too', async () => {
  const { master, worker, executor } = await openWorker({ master: { ...fast, longPollMs: 60_000 } });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  await executor.running(id);
  master.cancel(id);
  expect((await master.result(id)).outcome.case).toBe('cancelled');
});

test('when no heartbeat is accepted the worker lets go before its lease is over, and registers anew', async () => {
  // A worker lets go 10 % before the end: 0.4 s for a loaded machine to be late in.
  const { master, worker, executor } = await openWorker({
    heartbeatInThread: true,
    master: { leaseTtlMs: 4_000, heartbeatIntervalMs: 200 },
  });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  await master.until(() => master.heartbeats.length > 0);
  // The last accepted one was sent before now, so the lease is over 4 s from now at the latest.
  master.deafToHeartbeats = true;
  const silent = performance.now();
  // When this process does not get to run, that is not the worker's doing.
  let stoodStillMs = 0;
  let last = silent;
  const watching = setInterval(() => {
    const now = performance.now();
    if (now - last > 30) stoodStillMs += now - last - 10;
    last = now;
  }, 10);
  await once(task.context.signal, 'abort');
  clearInterval(watching);
  const now = performance.now();
  if (now - last > 30) stoodStillMs += now - last - 10;
  expect(now - silent - stoodStillMs).toBeLessThan(4_000);
  expect(task.context.signal.reason).toMatchObject({ kind: 'lost', message: expect.stringContaining('no heartbeat') });
  master.deafToHeartbeats = false;
  await master.until(() => master.registrations.length === 2);
  await master.result(master.submit({ kind: 'noop' }));
  expect(master.deliveries.has(id)).toBe(false);
});

// The worker in a process of its own, because what is tested stops or blocks all of it.
async function forkWorker(options: FakeMasterOptions): Promise<{ master: FakeMaster; worker: ChildProcess }> {
  const master = await FakeMaster.start(options);
  const worker = fork(fileURLToPath(new URL('../testing/blocking-worker.ts', import.meta.url)), [master.url], {
    execArgv: [],
  });
  onTestFinished(async () => {
    worker.kill('SIGKILL');
    await master.close();
  });
  await master.until(() => master.exchanges.length > 0);
  return { master, worker };
}

test('a main loop that is blocked for three lease times still renews its leases, and its lag is reported', async () => {
  const { master } = await forkWorker(fast);
  const id = master.submit({ kind: 'block', input: new TextEncoder().encode('3000') });
  const before = performance.now();
  const { outcome } = await master.result(id);
  expect(performance.now() - before).toBeGreaterThan(2_900);
  expect(outcome.case).toBe('success');
  expect(master.registrations).toHaveLength(1);
  const lags = master.heartbeats.map(({ metrics }) => metrics!.loopLagMs);
  expect(Math.max(...lags)).toBeGreaterThan(2_000);
  const during = master.heartbeats.filter(({ digest, metrics }) => digest!.count === 1 && metrics!.loopLagMs > 100);
  expect(during.length).toBeGreaterThan(5);
}, 20_000);

test('a process that was stopped for longer than its lease is fenced when it goes on, and begins a new life', async () => {
  const { master, worker } = await forkWorker(fast);
  const id = master.submit({ kind: 'wait', input: new TextEncoder().encode('1000') });
  await master.until(() => master.held() === 1);
  await master.until(() => master.heartbeats.at(-1)?.metrics?.running === 1);
  worker.kill('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  // What the sweep does, and another worker.
  master.loseSession();
  worker.kill('SIGCONT');
  await master.until(() => master.registrations.length === 2);
  expect(master.results.has(id)).toBe(false);
  await master.result(master.submit({ kind: 'wait', input: new TextEncoder().encode('1') }));
  expect(master.deliveries.has(id)).toBe(false);
}, 20_000);
