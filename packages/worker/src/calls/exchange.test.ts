import { FailureType } from '@baton/contract';
import { expect, test } from 'vitest';
import { openWorker, success } from '../testing/open-worker.ts';

test('a result is handed in and its output arrives as it was made', async () => {
  const { master, worker } = await openWorker({ tasks: { greet: () => success({ hello: 'world' }) } });
  await worker.start();
  const { outcome } = await master.result(master.submit({ kind: 'greet' }));
  expect(outcome.case).toBe('success');
  expect(new TextDecoder().decode(outcome.case === 'success' ? outcome.value.output : undefined)).toBe(
    '{"hello":"world"}',
  );
});

test('results that end while an exchange is under way go together in the next one', async () => {
  const { master, worker, executor } = await openWorker({ slots: 50 });
  await worker.start();
  const ids = Array.from({ length: 50 }, () => master.submit({ kind: 'hold' }));
  for (const id of ids) {
    await executor.running(id);
  }
  // The first result is on its way, its answer held back, while the others end.
  const answer = Promise.withResolvers<void>();
  master.beforeAnswer = () => answer.promise;
  executor.holding.get(ids[0]!)!.end();
  await master.until(() => master.exchanges.some((exchange) => exchange.results.length > 0));
  for (const id of ids.slice(1)) {
    executor.holding.get(id)!.end();
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(master.exchanges.filter((exchange) => exchange.results.length > 0)).toHaveLength(1);
  answer.resolve();
  await master.until(() => master.results.size === 50);
  expect(
    master.exchanges.filter((exchange) => exchange.results.length > 0).map(({ results }) => results.length),
  ).toEqual([1, 49]);
});

test('a result does not wait for a long poll, and its newer offer makes the offer of the poll void', async () => {
  const { master, worker, executor } = await openWorker({ slots: 4, master: { longPollMs: 60_000 } });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  await executor.running(id);
  // Three slots are free: a poll with an offer waits.
  await master.until(() =>
    master.exchanges.some(({ offer, granted }) => offer?.freeSlots === 3 && granted === undefined),
  );
  const poll = master.exchanges.at(-1)!;
  executor.holding.get(id)!.end();
  await master.result(id);
  await master.until(() => poll.granted === 0);
  const push = master.exchanges.find(({ results }) => results.length > 0)!;
  expect(push.waitMs).toBe(0);
  expect(push.offer!.freeSlots).toBe(4);
  expect(push.offer!.number).toBeGreaterThan(poll.offer!.number);
  // And the next poll offers all of it.
  await master.until(() => master.exchanges.at(-1)!.offer?.freeSlots === 4 && master.exchanges.at(-1)!.waitMs > 0);
});

test('a full worker keeps a poll open without asking for work, and gets its orders at once', async () => {
  const { master, worker, executor } = await openWorker({ slots: 1, master: { longPollMs: 60_000 } });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const waiting = master.submit({ kind: 'noop' });
  const task = await executor.running(id);
  await master.until(() => master.exchanges.at(-1)!.offer === undefined && master.exchanges.at(-1)!.waitMs > 0);
  expect(executor.started).not.toContain(waiting);
  master.cancel(id);
  expect((await master.result(id)).outcome.case).toBe('cancelled');
  expect(task.context.signal.reason).toMatchObject({ kind: 'cancel', message: 'a test said so' });
  // The slot is offered again.
  expect((await master.result(waiting)).outcome.case).toBe('success');
});

test('a result whose answer was lost is sent again, and counts once', async () => {
  const { master, worker } = await openWorker();
  await worker.start();
  master.loseAnswers = 2;
  const id = master.submit({ kind: 'noop' });
  await master.until(() => (master.deliveries.get(id) ?? 0) >= 3);
  expect(master.refusals).toEqual([]);
  expect((await master.result(master.submit({ kind: 'noop' }))).outcome.case).toBe('success');
});

test('a result that ends while the connection is cut is handed in when it is back', async () => {
  const { master, worker, executor } = await openWorker({ slots: 2 });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  master.cutConnections();
  task.end();
  expect((await master.result(id)).outcome.case).toBe('success');
  expect(master.registrations).toHaveLength(1);
});

test('a result that is too large becomes a failure without retry that says so, before it is sent', async () => {
  const { master, worker } = await openWorker({
    master: { maxResultBytes: 1000 },
    tasks: { big: () => success('x'.repeat(2000)) },
  });
  await worker.start();
  const { outcome } = await master.result(master.submit({ kind: 'big' }));
  expect(outcome).toMatchObject({
    case: 'failure',
    value: { type: FailureType.EVALUATION_ERROR, nonRetryable: true, message: expect.stringContaining('2002 bytes') },
  });
});

test('a result of a lease that is another’s by now is dropped, and the worker goes on', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  master.revoke(id);
  task.end();
  await master.until(() => master.refusals.length === 1);
  expect(master.refusals).toEqual([{ taskId: id, epoch: 1 }]);
  await master.result(master.submit({ kind: 'noop' }));
  expect(master.deliveries.get(id)).toBe(1);
});

test('one result that the master finds invalid is isolated and fails alone', async () => {
  const { master, worker, executor } = await openWorker({ slots: 8 });
  await worker.start();
  const ids = Array.from({ length: 8 }, () => master.submit({ kind: 'hold' }));
  for (const id of ids) {
    await executor.running(id);
  }
  master.invalidResult = ({ taskId, outcome }) => taskId === ids[3] && outcome.case === 'success';
  for (const id of ids) {
    executor.holding.get(id)!.end();
  }
  await master.until(() => master.results.size === 8);
  for (const id of ids) {
    expect(master.results.get(id)!.outcome.case).toBe(id === ids[3] ? 'failure' : 'success');
  }
});

test('a lease that is granted twice is carried out once', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  master.grantAgain({ taskId: id, epoch: 1, kind: 'hold', attempt: 1, executor: { case: 'function', value: {} } });
  await master.until(
    () =>
      master.waiting === 0 && master.exchanges.some(({ granted }) => granted === 1 && executor.started.length === 1),
  );
  await master.result(master.submit({ kind: 'noop' }));
  task.end();
  await master.result(id);
  expect(executor.started.filter((started) => started === id)).toEqual([id]);
});

test('a newer epoch of a task that is held replaces the older one', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const old = await executor.running(id);
  executor.holding.delete(id);
  master.grantAgain({ taskId: id, epoch: 2, kind: 'hold', attempt: 2, executor: { case: 'function', value: {} } });
  const fresh = await executor.running(id);
  expect(old.context.signal.reason).toMatchObject({ kind: 'lost' });
  fresh.end();
  expect((await master.result(id)).epoch).toBe(2);
  expect(master.deliveries.get(id)).toBe(1);
});

test('short tasks are fetched ahead, and none is lost or done twice', async () => {
  const { master, worker, executor } = await openWorker({ slots: 10 });
  master.submitMany('noop', 20_000);
  await worker.start();
  await master.until(() => master.results.size === 20_000);
  expect(executor.started).toHaveLength(20_000);
  expect(new Set(executor.started).size).toBe(20_000);
  expect(Math.max(...master.exchanges.map(({ offer }) => offer?.freeSlots ?? 0))).toBeGreaterThan(100);
  const numbers = master.exchanges.flatMap(({ offer }) => offer?.number ?? []);
  expect(numbers).toEqual([...numbers].sort((a, b) => Number(a - b)));
  await master.until(() => master.held() === 0);
});

test('long tasks are never fetched ahead', async () => {
  const { master, worker } = await openWorker({
    slots: 2,
    tasks: { long: () => new Promise((resolve) => setTimeout(() => resolve(success(1)), 120)) },
  });
  await worker.start();
  for (let i = 0; i < 8; i++) {
    master.submit({ kind: 'long' });
  }
  let most = 0;
  while (master.results.size < 8) {
    most = Math.max(most, master.held());
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(most).toBeLessThanOrEqual(2);
});
