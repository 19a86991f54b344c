import { FailureType, TaskState } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, expectTypeOf, test } from 'vitest';
import { createBaton } from '../baton.ts';
import { BatonError } from '../calls/error.ts';
import { FakeBaton } from '../testing/index.ts';
import type { StandardSchema } from '../workflows/standard-schema.ts';
import { TaskCancelled, TaskFailed } from './outcome.ts';
import { JsonText } from './payload.ts';
import { isTaskDefinition, task } from './task.ts';

const unavailable = () => new ConnectError('gone', Code.Unavailable);

function setUp(options?: { maxWaitMs: number }) {
  const fake = new FakeBaton(options);
  return {
    fake,
    baton: createBaton({ transport: fake.transport, retry: { attempts: 3, baseDelayMs: 1, maxDelayMs: 2 } }),
  };
}

const addUp = task({
  id: 'add-up',
  queue: 'sums',
  taskClass: 'cpu_long',
  retry: { maxAttempts: 2, initialDelayMs: 1_500 },
  run: (input: { numbers: number[] }) => input.numbers.reduce((sum, number) => sum + number, 0),
});

test('a task is a value that is known by its shape', () => {
  expect(isTaskDefinition(addUp)).toBe(true);
  expect(isTaskDefinition({ ...addUp })).toBe(true);
  expect(isTaskDefinition({ id: 'x', run() {} })).toBe(false);
  expect(isTaskDefinition(null)).toBe(false);
});

test('a typed task: its policy is sent, options win, the result has its type', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.enqueue(
    addUp,
    { numbers: [1, 2] },
    { priority: 7, queue: 'urgent', taskClass: undefined },
  );
  expect(fake.specs.get(handle.id)).toMatchObject({
    kind: 'add-up',
    queue: 'urgent',
    taskClass: 2,
    priority: 7,
    retry: { maxAttempts: 2, initialDelay: { seconds: 1n, nanos: 500_000_000 } },
    payload: { case: 'inputJson', value: '{"numbers":[1,2]}' },
  });
  const result = handle.result();
  fake.succeedTask(handle.id, '3');
  expectTypeOf(result).resolves.toEqualTypeOf<number>();
  expect(await result).toBe(3);
  // @ts-expect-error the input has a type
  const wrong = baton.enqueue(addUp, { numbers: 'none' });
  await wrong;
});

test('an input that does not fit its schema is refused before it is sent', async () => {
  const { fake, baton } = setUp();
  const schema: StandardSchema<{ name?: string }, { name: string }> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => {
        const name = (value as { name?: unknown }).name ?? 'nobody';
        return typeof name === 'string' ? { value: { name } } : { issues: [{ message: 'no text', path: ['name', 0] }] };
      },
    },
  };
  const greet = task({ id: 'greet', input: schema, run: async ({ name }) => `Hello, ${name.toUpperCase()}` });
  const error = await baton.enqueue(greet, { name: 3 as unknown as string }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BatonError);
  expect(error).toMatchObject({
    code: 'invalid_argument',
    reason: 'INPUT_INVALID',
    violations: [{ field: 'name[0]', description: 'no text' }],
  });
  expect(fake.calls).toEqual([]);
  // What the schema fills in is the worker's to fill in: sent is what the caller gave.
  const handle = await baton.enqueue(greet, {});
  expect(fake.specs.get(handle.id)?.payload.value).toBe('{}');
});

test.each([
  [
    'a cycle',
    Object.assign(
      {},
      {
        get self() {
          return this;
        },
      },
    ),
  ],
  ['a bigint', 1n],
  ['a function', () => 1],
])('%s cannot be sent as JSON, and is refused', async (_, input) => {
  const { fake, baton } = setUp();
  await expect(baton.submit({ kind: 'k', input })).rejects.toMatchObject({ reason: 'INPUT_NOT_JSON' });
  expect(fake.calls).toEqual([]);
});

test('JSON text is sent byte for byte, and must be JSON', async () => {
  const { fake, baton } = setUp();
  const text = '{ "id": 12345678901234567890 }';
  const { id } = await baton.submit({ kind: 'k', input: new JsonText(text) });
  expect(fake.specs.get(id)?.payload.value).toBe(text);
  expect(() => new JsonText('{')).toThrow(SyntaxError);
});

test('bytes are sent as they are', async () => {
  const { fake, baton } = setUp();
  const { id } = await baton.submit({ kind: 'k', input: new Uint8Array([0, 255]) });
  expect(fake.specs.get(id)?.payload).toEqual({ case: 'inputBytes', value: new Uint8Array([0, 255]) });
  expect((await baton.tasks.get(id)).input).toEqual(new Uint8Array([0, 255]));
});

test('result() throws TaskFailed with type, attempts and the last failure', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.submit({ kind: 'k' });
  const result = handle.result().catch((thrown: unknown) => thrown);
  fake.failTask(handle.id, { type: FailureType.EVALUATION_ERROR, message: 'no such file', exceptionType: 'Oops' }, 4);
  const error = (await result) as TaskFailed;
  expect(error).toBeInstanceOf(TaskFailed);
  expect(error.type).toBe('EVALUATION_ERROR');
  expect(error.failure.exceptionType).toBe('Oops');
  expect(error.attempts.map((attempt) => attempt.number)).toEqual([1, 2, 3, 4]);
  expect(error.message).toContain('after 4 attempts: EVALUATION_ERROR: no such file');
});

test('result() throws TaskCancelled with its reason', async () => {
  const { baton } = setUp();
  const handle = await baton.submit({ kind: 'k' });
  expect(await handle.cancel('not needed')).toBe('cancelled');
  const error = await handle.result().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TaskCancelled);
  expect((error as TaskCancelled).reason).toBe('not needed');
});

test('result() ends with its signal', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.submit({ kind: 'k' });
  const leave = new AbortController();
  const result = handle.result({ signal: leave.signal });
  while (!fake.calls.includes('waitTasks')) await fake.next();
  leave.abort();
  await expect(result).rejects.toMatchObject({ name: 'BatonError', code: 'canceled' });
});

test('result() goes on over a longer interruption than a read would, once the task was submitted or seen', async () => {
  const { fake, baton } = setUp({ maxWaitMs: 1 });
  // Three tries are all that a read has.
  const interruption = Array.from({ length: 6 }, unavailable);
  const handle = await baton.submit({ kind: 'k' });
  fake.failNext('waitTasks', ...interruption);
  const result = handle.result();
  while (fake.faultsLeft > 0) await fake.next();

  const later = baton.tasks.handle(handle.id).result();
  // The call after the one that is under way asks for both; the next comes when it has been answered.
  fake.calls.length = 0;
  while (fake.calls.length < 4) await fake.next();
  fake.failNext('waitTasks', ...interruption);
  while (fake.faultsLeft > 0) await fake.next();
  fake.succeedTask(handle.id, '"done"');
  expect(await Promise.all([result, later])).toEqual(['done', 'done']);

  fake.failNext('waitTasks', ...interruption);
  await expect(baton.tasks.handle(handle.id).result()).rejects.toMatchObject({ code: 'unavailable' });
});

test('those who wait wait by one call, and tell the failed from the others', async () => {
  const { fake, baton } = setUp();
  const handles = await Promise.all(Array.from({ length: 5 }, () => baton.submit({ kind: 'k' })));
  fake.calls.length = 0;
  const results = Promise.allSettled(handles.map((handle) => handle.result()));
  while (!fake.calls.includes('waitTasks')) await fake.next();
  for (const { id } of handles.slice(1)) fake.succeedTask(id, JSON.stringify(id));
  fake.failTask(handles[0]!.id, { type: FailureType.UNKNOWN, message: 'no' }, 1);
  expect((await results).map((each) => (each.status === 'fulfilled' ? each.value : each.reason.name))).toEqual([
    'TaskFailed',
    ...handles.slice(1).map(({ id }) => id),
  ]);
  expect(fake.calls.filter((call) => call === 'waitTasks').length).toBeLessThan(5);
  // For its attempts.
  expect(fake.calls.filter((call) => call === 'getTask')).toHaveLength(1);
});

test('a master that knows no such call is asked for each task', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.submit({ kind: 'k' });
  fake.failNext('waitTasks', new ConnectError('no such procedure', Code.Unimplemented));
  const result = handle.result();
  while (!fake.calls.includes('getTask')) await fake.next();
  fake.succeedTask(handle.id, '"done"');
  expect(await result).toBe('done');
});

test('the result of a task that is not there is refused with TASK_NOT_FOUND', async () => {
  const { baton } = setUp();
  await expect(baton.tasks.handle('404').result()).rejects.toMatchObject({ reason: 'TASK_NOT_FOUND' });
});

test('a read is repeated while the server is unavailable, and then given up', async () => {
  const { fake, baton } = setUp();
  const { id } = await baton.submit({ kind: 'k' });
  fake.calls.length = 0;
  fake.failNext('getTask', unavailable(), unavailable());
  expect((await baton.tasks.get(id)).state).toBe('ready');
  expect(fake.calls).toHaveLength(3);
  fake.failNext('getTask', unavailable(), unavailable(), unavailable());
  await expect(baton.tasks.get(id)).rejects.toMatchObject({ code: 'unavailable' });
});

test('a read that is refused because too many ask is repeated too', async () => {
  const { fake, baton } = setUp();
  const { id } = await baton.submit({ kind: 'k' });
  fake.calls.length = 0;
  const overloaded = () => {
    const error = new ConnectError('later', Code.ResourceExhausted);
    error.details = [{ desc: errorDetails.ErrorInfoSchema, value: { reason: 'OVERLOADED', domain: 'baton' } }];
    return error;
  };
  fake.failNext('getTask', overloaded(), overloaded());
  expect((await baton.tasks.get(id)).state).toBe('ready');
  fake.failNext('getTask', new ConnectError('too large', Code.ResourceExhausted));
  await expect(baton.tasks.get(id)).rejects.toMatchObject({ code: 'resource_exhausted' });
  expect(fake.calls).toHaveLength(4);
});

test('a cancel is not repeated', async () => {
  const { fake, baton } = setUp();
  const { id } = await baton.submit({ kind: 'k' });
  fake.failNext('cancelTask', unavailable());
  await expect(baton.tasks.cancel(id)).rejects.toMatchObject({ code: 'unavailable' });
  expect(fake.calls.filter((call) => call === 'cancelTask')).toHaveLength(1);
});

test('what is not there is not_found with its reason', async () => {
  const { baton } = setUp();
  await expect(baton.tasks.get('99')).rejects.toMatchObject({ code: 'not_found', reason: 'TASK_NOT_FOUND' });
});

test('a list goes over its pages, newest first, up to its limit', async () => {
  const { fake, baton } = setUp();
  for (let index = 0; index < 7; index++) await baton.submit({ kind: index % 2 ? 'odd' : 'even' });
  fake.calls.length = 0;
  const ids = (await baton.tasks.list({ pageSize: 3 }).all()).map((view) => view.id);
  expect(ids).toEqual(['7', '6', '5', '4', '3', '2', '1']);
  expect(fake.calls).toHaveLength(3);
  expect((await baton.tasks.list({ kind: 'odd' }).all()).map((view) => view.id)).toEqual(['6', '4', '2']);
  expect(await baton.tasks.list({ limit: 2 }).all()).toHaveLength(2);
  expect(await baton.tasks.list({ states: ['failed'] }).all()).toEqual([]);
});

test('watch gives each change once, over a cut connection, until the end', async () => {
  const { fake, baton } = setUp();
  const { id, watch } = await baton.submit({ kind: 'k' });
  const states: string[] = [];
  for await (const view of watch()) {
    states.push(view.state);
    if (view.state === 'ready') {
      fake.cutStreams();
      fake.updateTask(id, (stored) => {
        stored.state = TaskState.LEASED;
      });
    }
    if (view.state === 'leased') fake.succeedTask(id, '1');
  }
  expect(states).toEqual(['ready', 'leased', 'succeeded']);
  expect(fake.calls.filter((call) => call === 'watchTask').length).toBeGreaterThan(1);
});

test('a watch that was never connected is given up like a read', async () => {
  const { fake, baton } = setUp();
  const { watch } = await baton.submit({ kind: 'k' });
  fake.failNext('watchTask', unavailable(), unavailable(), unavailable());
  await expect(watch()[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'unavailable' });
});

test('logs follow until the task has ended, over a cut connection, without repetition', async () => {
  const { fake, baton } = setUp();
  const { id, logs } = await baton.submit({ kind: 'k' });
  fake.addLogs(id, 'one', 'two');
  const texts: string[] = [];
  for await (const line of logs({ follow: true })) {
    texts.push(line.text);
    if (line.text === 'two') {
      fake.cutStreams();
      fake.addLogs(id, 'three');
    }
    if (line.text === 'three') fake.succeedTask(id, 'null');
  }
  expect(texts).toEqual(['one', 'two', 'three']);
});

test('logs without follow end with what is there', async () => {
  const { fake, baton } = setUp();
  const { id } = await baton.submit({ kind: 'k' });
  fake.addLogs(id, 'one');
  const texts: string[] = [];
  for await (const line of baton.tasks.logs(id)) texts.push(line.text);
  expect(texts).toEqual(['one']);
});
