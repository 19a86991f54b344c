import { errorDetails } from '@baton/contract/grpc';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { createBaton } from '../baton.ts';
import { FakeBaton } from '../testing/index.ts';
import { BatonError } from './error.ts';

const retry = { attempts: 3, baseDelayMs: 1, maxDelayMs: 2 };
const unavailable = () => new ConnectError('gone', Code.Unavailable);

function setUp() {
  const fake = new FakeBaton();
  return { fake, baton: createBaton({ transport: fake.transport, retry }) };
}

test('the submits of one tick leave in one call, each with its own answer', async () => {
  const { fake, baton } = setUp();
  const handles = await Promise.all(
    Array.from({ length: 300 }, (_, index) => baton.submit({ kind: 'k', input: { index } })),
  );
  expect(fake.calls).toEqual(['submitTasks']);
  for (const [index, handle] of handles.entries()) {
    expect(fake.specs.get(handle.id)?.payload).toEqual({ case: 'inputJson', value: `{"index":${index}}` });
  }
});

test('a submit alone is one SubmitTask', async () => {
  const { fake, baton } = setUp();
  await baton.submit({ kind: 'k' });
  expect(fake.calls).toEqual(['submitTask']);
});

test('more than 1 000 tasks, or 3 MiB, go in several calls', async () => {
  const { fake, baton } = setUp();
  await Promise.all(Array.from({ length: 2_500 }, () => baton.submit({ kind: 'k' })));
  expect(fake.calls).toEqual(['submitTasks', 'submitTasks', 'submitTasks']);

  fake.calls.length = 0;
  const input = 'x'.repeat(1024 * 1024);
  await Promise.all(Array.from({ length: 4 }, () => baton.submit({ kind: 'k', input })));
  expect(fake.calls).toEqual(['submitTasks', 'submitTasks']);
});

test('one that is refused does not touch the others', async () => {
  const { baton } = setUp();
  const [good, bad, alsoGood] = await Promise.allSettled([
    baton.submit({ kind: 'a' }),
    baton.submit({ kind: '' }),
    baton.submit({ kind: 'b' }),
  ]);
  expect(good.status).toBe('fulfilled');
  expect(alsoGood.status).toBe('fulfilled');
  expect((bad as PromiseRejectedResult).reason).toMatchObject({
    name: 'BatonError',
    code: 'invalid_argument',
    reason: 'INVALID_REQUEST',
  });
});

test('a call that is refused as a whole is halved until the bad one is found, with its violations', async () => {
  const { fake, baton } = setUp();
  fake.failNext('submitTasks', new ConnectError('one of them is bad', Code.InvalidArgument));
  const outcomes = await Promise.allSettled([
    baton.submit({ kind: 'a' }),
    baton.submit({ kind: 'b' }),
    baton.submit({ kind: '' }),
  ]);
  expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'fulfilled', 'rejected']);
  // [a b c] refused, then [a] alone, then [b c], in which the server tells them apart.
  expect(fake.calls).toEqual(['submitTasks', 'submitTask', 'submitTasks']);

  const error = await baton.submit({ kind: '' }).catch((thrown: unknown) => thrown);
  expect((error as BatonError).violations).toEqual([
    { field: 'task.kind', description: 'value length must be at least 1 bytes' },
  ]);
});

test('an unavailable server: only submits with an idempotency key are sent again', async () => {
  const { fake, baton } = setUp();
  fake.failNext('submitTasks', unavailable());
  const [keyed, plain] = await Promise.allSettled([
    baton.submit({ kind: 'k', idempotencyKey: 'once' }),
    baton.submit({ kind: 'k' }),
  ]);
  expect(keyed.status).toBe('fulfilled');
  expect((plain as PromiseRejectedResult).reason).toMatchObject({ code: 'unavailable' });
  expect(fake.calls).toEqual(['submitTasks', 'submitTask']);
});

test('sending again ends after the given number of tries', async () => {
  const { fake, baton } = setUp();
  fake.failNext('submitTask', unavailable(), unavailable(), unavailable(), unavailable());
  await expect(baton.submit({ kind: 'k', idempotencyKey: 'once' })).rejects.toMatchObject({ code: 'unavailable' });
  expect(fake.calls).toEqual(['submitTask', 'submitTask', 'submitTask']);
});

test('the same key gives the same task', async () => {
  const { baton } = setUp();
  const first = await baton.submit({ kind: 'k', idempotencyKey: 'once' });
  const second = await baton.submit({ kind: 'k', idempotencyKey: 'once' });
  expect(second.id).toBe(first.id);
  expect([first.deduplicated, second.deduplicated]).toEqual([false, true]);
});

test('a caller that leaves before the call rejects alone', async () => {
  const { fake, baton } = setUp();
  const leave = new AbortController();
  const left = baton.submit({ kind: 'left', signal: leave.signal });
  const stayed = baton.submit({ kind: 'stayed' });
  leave.abort();
  await expect(left).rejects.toMatchObject({ name: 'BatonError', code: 'canceled' });
  await stayed;
  expect([...fake.specs.values()].map((spec) => spec.kind)).toEqual(['stayed']);
});

test('a signal that is over already sends nothing', async () => {
  const { fake, baton } = setUp();
  await expect(baton.submit({ kind: 'k', signal: AbortSignal.abort() })).rejects.toBeInstanceOf(BatonError);
  expect(fake.calls).toEqual([]);
});

test('a server that asks for a pause is given it', async () => {
  const { fake, baton } = setUp();
  const busy = new ConnectError('busy', Code.Unavailable, undefined, [
    { desc: errorDetails.RetryInfoSchema, value: { retryDelay: { nanos: 80_000_000 } } },
  ]);
  fake.failNext('submitTask', busy);
  const startedAt = performance.now();
  await baton.submit({ kind: 'k', idempotencyKey: 'once' });
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(79);
});
