import { AttemptFailure, NonRetryable, RetryAfter, task } from '@baton/client';
import { FailureType, PayloadEncoding } from '@baton/contract';
import { expect, test } from 'vitest';
import { functionExecutor } from './function-executor.ts';
import { DuplicateTaskError, type RunnableTask } from './task-definition.ts';
import { outputOf, start } from './testing/attempt.ts';

function define(id: string, run: RunnableTask['run'], more: Partial<RunnableTask> = {}): RunnableTask {
  return { __baton: 'task', id, run, ...more };
}

/** What one task makes of an input. */
function run(run: RunnableTask['run'], input?: unknown, more: Partial<RunnableTask> = {}) {
  return start(functionExecutor([define('it', run, more)]), { kind: 'it' }, input).outcome;
}

test('a task made by the client runs with its input and context, and its value is the output', async () => {
  const greet = task({
    id: 'greet',
    run: async (input: { name: string }, ctx) => {
      ctx.log(`greeting ${input.name}`);
      return { text: `Hello, ${input.name}`, attempt: ctx.attempt, epoch: ctx.epoch, id: ctx.taskId };
    },
  });
  const executor = functionExecutor([greet as RunnableTask]);
  expect(executor.kinds).toEqual(['greet']);
  const { outcome, lines } = start(executor, { kind: 'greet' }, { name: 'you' });
  expect(outputOf(await outcome)).toEqual({ text: 'Hello, you', attempt: 2, epoch: 3, id: '42' });
  expect(lines).toEqual(['greeting you']);
});

test('a function that returns at once costs no promise', () => {
  expect(run(() => 7)).not.toBeInstanceOf(Promise);
  expect(outputOf(run(() => 7) as never)).toBe(7);
});

test('input is undefined when there is none, and bytes when bytes were given', async () => {
  const seen: unknown[] = [];
  const executor = functionExecutor([define('it', (input) => void seen.push(input))]);
  await start(executor, { kind: 'it' }).outcome;
  await start(executor, { kind: 'it', encoding: PayloadEncoding.BYTES, input: new Uint8Array([0, 255]) }).outcome;
  await start(executor, { kind: 'it' }, null).outcome;
  expect(seen).toEqual([undefined, new Uint8Array([0, 255]), null]);
});

test('output: undefined is null, bytes stay bytes, what JSON cannot say fails without retry', async () => {
  expect(await run(() => undefined)).toMatchObject({ kind: 'success', output: new TextEncoder().encode('null') });
  expect(await run(() => new Uint8Array([1, 2]))).toEqual({
    kind: 'success',
    output: new Uint8Array([1, 2]),
    encoding: PayloadEncoding.BYTES,
  });
  for (const bad of [1n, () => 1, Symbol('s')]) {
    expect(await run(() => bad)).toMatchObject({
      kind: 'failure',
      failure: { type: FailureType.EVALUATION_ERROR, nonRetryable: true, message: expect.stringContaining('JSON') },
    });
  }
});

test('what a task throws, or rejects with, is its failure with type and stack', async () => {
  for (const code of [
    () => {
      throw new RangeError('too far');
    },
    async () => {
      throw new RangeError('too far');
    },
  ]) {
    expect(await run(code)).toEqual({
      kind: 'failure',
      failure: {
        type: FailureType.EVALUATION_ERROR,
        message: 'too far',
        exceptionType: 'RangeError',
        stack: expect.stringContaining('function-executor.test.ts'),
        nonRetryable: false,
        retryAfterMs: undefined,
      },
    });
  }
  expect(await run(() => Promise.reject('just text'))).toMatchObject({ failure: { message: 'thrown: just text' } });
  expect(await run(() => Promise.reject(Object.create(null)))).toMatchObject({ kind: 'failure' });
});

test('AttemptFailure says whose fault it was', async () => {
  const failing = (thrown: Error) =>
    run(() => {
      throw thrown;
    });
  expect(await failing(new AttemptFailure('GPU_ERROR', 'Xid 79', { device: 'GPU-1', delayMs: 7 }))).toMatchObject({
    failure: { type: FailureType.GPU_ERROR, message: 'Xid 79', device: 'GPU-1', retryAfterMs: 7, nonRetryable: false },
  });
  expect(await failing(new AttemptFailure('OUT_OF_MEMORY', 'no room', { nonRetryable: true }))).toMatchObject({
    failure: { type: FailureType.OUT_OF_MEMORY, nonRetryable: true },
  });
  // Losing a worker is for the master to say.
  const crash = Object.assign(new AttemptFailure('UNKNOWN', 'x'), { type: 'WORKER_CRASH' });
  expect(await failing(crash)).toMatchObject({ failure: { type: FailureType.EVALUATION_ERROR } });
});

test('NonRetryable and RetryAfter say what is to happen next', async () => {
  const never = () => {
    throw new NonRetryable('hopeless');
  };
  const later = () => {
    throw new RetryAfter(1_500, 'busy');
  };
  expect(await run(never)).toMatchObject({ failure: { message: 'hopeless', nonRetryable: true } });
  expect(await run(later)).toMatchObject({ failure: { message: 'busy', nonRetryable: false, retryAfterMs: 1_500 } });
});

test('an input that is not JSON fails without retry', async () => {
  const executor = functionExecutor([define('it', () => 1)]);
  const input = new TextEncoder().encode('{"a":');
  expect(await start(executor, { kind: 'it', input }).outcome).toMatchObject({
    failure: { nonRetryable: true, message: expect.stringContaining('not JSON') },
  });
});

test('schemas check and transform input and output, and every issue is named', async () => {
  const positive = {
    '~standard': {
      validate: (value: unknown) =>
        typeof value === 'number' && value > 0
          ? { value: value * 2 }
          : { issues: [{ message: 'must be positive', path: ['a', { key: 0 }] }, { message: 'and a number' }] },
    },
  };
  expect(outputOf(await run((input) => input, 4, { input: positive, output: positive }))).toBe(16);
  expect(await run((input) => input, -4, { input: positive })).toMatchObject({
    failure: {
      nonRetryable: true,
      message: 'the input of task "it" does not fit: a.0: must be positive; and a number',
    },
  });
  expect(await run(() => -1, undefined, { output: positive })).toMatchObject({
    failure: { nonRetryable: true, message: expect.stringContaining('the output of task "it" does not fit') },
  });
});

test('a kind that is not registered can be tried again elsewhere', async () => {
  expect(await start(functionExecutor([]), { kind: 'other' }).outcome).toMatchObject({
    failure: { message: 'no task "other" is registered on this worker', nonRetryable: false },
  });
});

test('two tasks of one id are refused, the same value twice is not', () => {
  const one = define('same', () => 1);
  expect(functionExecutor([one, one]).kinds).toEqual(['same']);
  expect(() => functionExecutor([one, define('same', () => 2)])).toThrow(DuplicateTaskError);
});

test('what ctx.blob gave is the output, read as it says, whatever the schema of the output is', async () => {
  const nothingFits = { '~standard': { validate: () => ({ issues: [{ message: 'no' }] }) } };
  const returned = await run((_, ctx) => ctx.blob('[1]', { encoding: 'json' }), undefined, { output: nothingFits });
  expect(returned).toEqual({
    kind: 'success',
    output: new Uint8Array(),
    encoding: PayloadEncoding.JSON,
    blob: { sha256: 'ab'.repeat(32), sizeBytes: 3 },
  });
  expect(await run((_, ctx) => ctx.blob(Uint8Array.of(1)))).toMatchObject({
    encoding: PayloadEncoding.BYTES,
    blob: { sizeBytes: 3 },
  });
  // Only the whole of it: within a value it is data.
  expect(outputOf(await run(() => ({ __baton: 'blob', sha256: 'short', sizeBytes: 1 })))).toMatchObject({
    sha256: 'short',
  });
});
