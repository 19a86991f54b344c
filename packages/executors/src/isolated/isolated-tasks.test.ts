import { fileURLToPath } from 'node:url';
import { FailureType, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Executor } from '@baton/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { functionExecutor } from '../function-executor.ts';
import { loadTasks } from '../load-tasks.ts';
import { outputOf, start } from '../testing/attempt.ts';

const fixture = (name: string) => fileURLToPath(new URL(`./${name}.fixture.ts`, import.meta.url));
let executor: Executor;
beforeAll(async () => {
  executor = functionExecutor(await loadTasks([fixture('isolated'), fixture('broken')]), undefined, {
    PATH: process.env.PATH!,
  });
});
afterAll(() => executor.close?.());

const begin = (kind: string, input?: unknown, more: Partial<AttemptContext> = {}) =>
  start(executor, { kind }, input, more);
const outcomeOf = async (kind: string, more?: Partial<AttemptContext>) => begin(kind, undefined, more).outcome;
const failureOf = async (kind: string) => {
  const outcome = await outcomeOf(kind);
  if (outcome.kind !== 'failure') throw new Error(`no failure: ${JSON.stringify(outcome)}`);
  return outcome.failure;
};
/** Resolves with the first line that a task writes, by then it runs. */
const whenUp = () => {
  let up: (line: string) => void = () => {};
  const first = new Promise<string>((resolve) => {
    up = resolve;
  });
  return { first, up };
};

describe.each(['thread', 'process'])('a task in a %s of its own', (mode) => {
  test('has all that a task has', async () => {
    const said: unknown[] = [];
    const { outcome, lines } = begin(
      `${mode}-everything`,
      { a: 1 },
      {
        progress: (...args) => said.push(['progress', ...args]),
        output: { write: async (data) => void said.push(['output', data]) },
        devices: ['GPU-1', 'GPU-2'],
        checkpoint: {
          latest: 3,
          save: async (...args) => {
            said.push(['save', ...args]);
            return 4;
          },
          load: async <T>() => ({ was: 'here' }) as T,
        },
      },
    );
    expect(outputOf(await outcome)).toEqual({
      input: { a: 1 },
      before: { was: 'here' },
      number: 4,
      latest: 4,
      attempt: 2,
      devices: 'GPU-1,GPU-2',
    });
    expect(lines).toEqual(['a line']);
    expect(said).toEqual([
      ['progress', 0.5, 'half'],
      ['output', 'streamed'],
      ['save', { at: 1 }, { score: 2 }],
    ]);
  });

  test('is kept warm for the next of the same surroundings, and not for others', async () => {
    const where = async (more: Partial<AttemptContext> = {}) =>
      outputOf(await outcomeOf(`${mode}-where`, more)) as { pid: number; threadId: number; lives: number; env: object };
    const [one, two] = [await where(), await where()];
    expect([two.pid, two.threadId, two.lives]).toEqual([one.pid, one.threadId, one.lives + 1]);
    const other = await where({ env: { COLOR: 'blue' } });
    expect(other).toMatchObject({ lives: 1, env: { COLOR: 'blue' } });
    // Two at once are two.
    const both = await Promise.all([where(), where()]);
    expect(new Set(both.map((each) => `${each.pid}.${each.threadId}`)).size).toBe(2);
    if (mode === 'process') expect(one.pid).not.toBe(process.pid);
    else expect(one.threadId).toBeGreaterThan(0);
    // Of the environment of the worker it has what it is handed.
    expect(Object.keys(one.env).sort()).toEqual(['CUDA_DEVICE_ORDER', 'CUDA_VISIBLE_DEVICES', 'PATH']);
  });

  test('is ended where it does not hear, and asked where it does', async () => {
    const deaf = begin(`${mode}-endless`);
    deaf.abort.abort(new Error('enough'));
    expect(await deaf.outcome).toEqual({ kind: 'cancelled' });

    const { first, up } = whenUp();
    const lines: string[] = [];
    const polite = begin(`${mode}-polite`, undefined, {
      log: (text) => {
        lines.push(text);
        up(text);
      },
    });
    await first;
    polite.abort.abort(Object.assign(new Error('enough'), { kind: 'timeout' }));
    await polite.outcome;
    expect(lines).toEqual(['up', 'TaskStopped: timeout']);
  });

  test('fails as tasks do, and alone', async () => {
    expect(await failureOf(`${mode}-throws`)).toMatchObject({
      type: FailureType.EVALUATION_ERROR,
      message: 'too far',
      exceptionType: 'RangeError',
      nonRetryable: true,
      stack: expect.stringContaining('isolated.fixture'),
    });
    expect(await failureOf(`${mode}-exits`)).toMatchObject({
      type: FailureType.EVALUATION_ERROR,
      exceptionType: 'exit 7',
    });
    const uncaught = await failureOf(`${mode}-uncaught`);
    expect(uncaught.type).toBe(FailureType.EVALUATION_ERROR);
    if (mode === 'thread')
      expect(uncaught).toMatchObject({
        exceptionType: 'TypeError',
        message: expect.stringContaining('nobody catches me'),
      });
    else {
      expect(await failureOf('process-killed')).toMatchObject({ type: FailureType.OUT_OF_MEMORY });
      expect(await failureOf('thread-hungry')).toMatchObject({ type: FailureType.OUT_OF_MEMORY });
    }
  });

  test('hears why the worker refuses what it asks for', async () => {
    const outcome = await outcomeOf(`${mode}-refused`, {
      checkpoint: {
        latest: 0,
        save: () =>
          Promise.reject(
            Object.assign(new Error('the lease is lost'), { name: 'CheckpointError', reason: 'LEASE_LOST' }),
          ),
        load: async () => undefined,
      },
    });
    expect(outcome).toMatchObject({ failure: { exceptionType: 'CheckpointError', message: 'the lease is lost' } });
  });

  test('has what it prints kept as lines', async () => {
    const { outcome, lines } = begin(`${mode}-prints`);
    await outcome;
    expect(lines.sort()).toEqual(['err', 'out']);
  });

  test('saves when the worker is about to go', async () => {
    const { first, up } = whenUp();
    const saved: unknown[] = [];
    let now: (() => unknown) | undefined;
    const { outcome, abort } = begin(`${mode}-saves`, undefined, {
      log: up,
      onCheckpointNow: (listener) => {
        now = listener;
      },
      checkpoint: {
        latest: 0,
        save: async (value) => {
          saved.push(value);
          return 1;
        },
        load: async () => undefined,
      },
    });
    await first;
    await now!();
    expect(saved).toEqual(['now']);
    abort.abort(new Error('going'));
    await outcome;
  });
});

test('a module that cannot be imported apart is the reason that is given', async () => {
  expect(await failureOf('broken')).toMatchObject({
    message: expect.stringContaining('no licence here'),
    nonRetryable: true,
  });
});

test('a task that was handed over as a value says where it is from, or cannot be isolated', async () => {
  const value = { __baton: 'task' as const, id: 'value', isolation: 'thread' as const, run: () => 1 };
  const own = functionExecutor([value]);
  expect(await start(own, { kind: 'value' }).outcome).toMatchObject({
    failure: { nonRetryable: true, message: expect.stringContaining('import.meta.url') },
  });
  const module = new URL('./isolated.fixture.ts', import.meta.url).href;
  const placed = functionExecutor([{ ...value, id: 'thread-prints', module }]);
  expect(await start(placed, { kind: 'thread-prints', encoding: PayloadEncoding.JSON }).outcome).toMatchObject({
    kind: 'success',
  });
  await placed.close?.();
});
