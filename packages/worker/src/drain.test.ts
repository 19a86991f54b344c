import { expect, test } from 'vitest';
import { openWorker } from './testing/open-worker.ts';

test('a drain takes no new work, hands back what has not started, finishes what runs, and leaves', async () => {
  const { master, worker, executor } = await openWorker({ slots: 1, prefetchCap: 0, master: { longPollMs: 60_000 } });
  await worker.start();
  const running = master.submit({ kind: 'hold' });
  const task = await executor.running(running);
  const drained = worker.drain('maintenance');
  expect(worker.state).toBe('draining');
  await master.until(() => master.heartbeats.some(({ draining }) => draining));
  const later = master.submit({ kind: 'noop' });
  expect(task.context.signal.aborted).toBe(false);
  task.end();
  await drained;
  expect(master.results.get(running)!.outcome.case).toBe('success');
  expect(master.results.has(later)).toBe(false);
  expect(master.waiting).toBe(1);
  expect(master.left).toEqual(['maintenance']);
  expect(master.held()).toBe(0);
  expect(await worker.stopped).toBe('maintenance');
  expect(executor.closed).toBe(true);
});

test('an offer that is open is taken back, and leases that come all the same are handed back', async () => {
  const { master, worker, executor } = await openWorker({ slots: 4, master: { longPollMs: 60_000 } });
  await worker.start();
  const held = await executor.running(master.submit({ kind: 'hold' }));
  await master.until(() => master.exchanges.at(-1)!.offer?.freeSlots === 3);
  const drained = worker.drain('maintenance');
  // Granted to the poll before the withdrawal arrives.
  const late = master.submit({ kind: 'noop' });
  expect((await master.result(late)).outcome.case).toBe('returned');
  expect(master.exchanges.some(({ offer }) => offer?.freeSlots === 0)).toBe(true);
  expect(executor.started).not.toContain(late);
  held.end();
  await drained;
});

test('what does not end within the grace is stopped and handed back', async () => {
  const { master, worker, executor } = await openWorker({ drainGraceMs: 50, abortGraceMs: 50, slots: 2 });
  await worker.start();
  const obedient = master.submit({ kind: 'hold' });
  const deaf = master.submit({ kind: 'deaf' });
  await executor.running(obedient);
  const task = await executor.running(deaf);
  await worker.drain('maintenance');
  expect(task.context.signal.reason).toMatchObject({ kind: 'hand-back' });
  expect(master.results.get(obedient)!.outcome.case).toBe('returned');
  expect(master.results.get(deaf)!.outcome.case).toBe('returned');
  expect(master.left).toHaveLength(1);
});

test('the master can order a drain', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  master.orderDrain();
  await master.until(() => master.heartbeats.some(({ draining }) => draining));
  task.end();
  await worker.stopped;
  expect(master.results.get(id)!.outcome.case).toBe('success');
});

test('the master can order a shutdown: everything goes back at once', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  await executor.running(id);
  master.orderShutdown();
  await worker.stopped;
  expect(master.results.get(id)!.outcome.case).toBe('returned');
  expect(master.left).toHaveLength(1);
});

test('a shutdown ends the grace of a drain', async () => {
  const { master, worker, executor } = await openWorker({ drainGraceMs: 600_000 });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  await executor.running(id);
  const drained = worker.drain('gently');
  await worker.shutdown('now');
  await drained;
  expect(master.results.get(id)!.outcome.case).toBe('returned');
});

test('a drain ends although the master is gone', async () => {
  const { master, worker, executor } = await openWorker({ drainGraceMs: 100 });
  await worker.start();
  await executor.running(master.submit({ kind: 'hold' }));
  await master.close();
  await worker.drain('the end');
  expect(worker.state).toBe('stopped');
}, 20_000);
