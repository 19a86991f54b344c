import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  BatonError,
  createBaton,
  isFinalTaskState,
  TaskCancelled,
  TaskFailed,
  type TaskStateName,
} from '@baton/client';
import { TaskService, TaskState } from '@baton/contract';
import { useStack } from '@baton/testkit/vitest';
import { toJson } from '@bufbuild/protobuf';
import { type Value, ValueSchema } from '@bufbuild/protobuf/wkt';
import { Code, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });
const client = (namespace?: string) => createBaton({ url: stack().url, namespace });
let files = 0;
const newFile = () => join(stack().home, `file-${++files}`);
const open = (file: string) => writeFile(file, '');

async function refusal(call: Promise<unknown>): Promise<BatonError> {
  const error = await call.then(
    () => expect.fail('the call should have been refused'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(BatonError);
  return error as BatonError;
}

async function failed(result: Promise<unknown>): Promise<TaskFailed> {
  const error = await result.then(
    () => expect.fail('the task should have failed'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(TaskFailed);
  return error as TaskFailed;
}

/** Resolves with the first state of the task that fits. */
async function reaches(id: string, wanted: (state: TaskStateName) => boolean): Promise<TaskStateName> {
  for await (const { state } of client().tasks.watch(id)) if (wanted(state)) return state;
  return expect.fail('the task ended before');
}

describe('lists', () => {
  test('by keyset pages while tasks are added: nothing twice, nothing left out', async () => {
    const baton = client('growing');
    const add = async (n: number) => {
      const added = await Promise.all(Array.from({ length: n }, () => baton.submit({ kind: 'later', queue: 'q' })));
      return added.map(({ id }) => id);
    };
    const there = new Set(await add(60));
    const seen: string[] = [];
    const list = baton.tasks.list({ pageSize: 7 });
    for await (const { id } of list) {
      seen.push(id);
      if (seen.length % 7 === 0) await add(3);
    }
    expect(new Set(seen).size).toBe(seen.length);
    // Newest first: what was added meanwhile stands before the first page.
    expect(seen).toEqual([...there].sort((a, b) => (BigInt(a) < BigInt(b) ? 1 : -1)));
  });

  test('by state, queue and kind', async () => {
    const baton = client();
    const done = await baton.submit({ kind: 'echo', queue: 'filter-a', input: 1 });
    await done.result();
    const ready = await baton.submit({ kind: 'nobody', queue: 'filter-a' });
    const later = await baton.submit({ kind: 'nobody', queue: 'filter-b', runAt: new Date(Date.now() + 60_000) });
    const ids = async (options: Parameters<typeof baton.tasks.list>[0]) => {
      const found: string[] = [];
      for await (const { id } of baton.tasks.list(options)) found.push(id);
      return found;
    };
    expect(await ids({ queue: 'filter-a' })).toEqual([ready.id, done.id]);
    expect(await ids({ queue: 'filter-a', states: ['succeeded'] })).toEqual([done.id]);
    expect(await ids({ queue: 'filter-b', states: ['ready', 'scheduled'] })).toEqual([later.id]);
    expect(await ids({ kind: 'nobody', queue: 'filter-b' })).toEqual([later.id]);
    expect(await ids({ kind: 'nobody', states: ['failed'] })).toEqual([]);
    expect((await ids({ states: ['ready', 'scheduled'] })).slice(0, 2)).toEqual([later.id, ready.id]);
  });
});

describe('ends of many', () => {
  test('in one call, each once, with what came out of it', async () => {
    const rpc = createClient(TaskService, createGrpcTransport({ baseUrl: stack().url }));
    const tasks = await Promise.all(
      Array.from({ length: 20 }, (_, i) => client().submit({ kind: 'echo', input: { i } })),
    );
    const outputs = new Map<string, unknown>();
    const left = new Set(tasks.map(({ id }) => id));
    while (left.size > 0) {
      const { ends, missing } = await rpc.waitTasks({ taskIds: [...left], wait: { seconds: 20n } });
      expect(missing).toEqual([]);
      expect(ends.length).toBeGreaterThan(0);
      for (const { taskId, state, outputPayload } of ends) {
        expect(left.delete(taskId)).toBe(true);
        expect(state).toBe(TaskState.SUCCEEDED);
        outputs.set(taskId, toJson(ValueSchema, outputPayload.value as Value));
      }
    }
    expect(tasks.map(({ id }) => outputs.get(id))).toEqual(tasks.map((_, i) => ({ i })));
    const cancelled = await client().submit({ kind: 'nobody' });
    const waited = rpc.waitTasks({ taskIds: [cancelled.id], wait: { seconds: 20n } });
    await cancelled.cancel('not wanted');
    expect((await waited).ends).toMatchObject([{ state: TaskState.CANCELLED, cancelReason: 'not wanted' }]);
    expect(await rpc.waitTasks({ taskIds: ['1', cancelled.id] })).toMatchObject({
      ends: [{ taskId: cancelled.id }],
      missing: ['1'],
    });
    expect(await rpc.waitTasks({ namespace: 'another', taskIds: [cancelled.id] })).toMatchObject({
      ends: [],
      missing: [cancelled.id],
    });
    await expect(rpc.waitTasks({ taskIds: [] })).rejects.toMatchObject({ code: Code.InvalidArgument });
    await expect(rpc.waitTasks({ taskIds: ['x'] })).rejects.toMatchObject({ code: Code.InvalidArgument });
  });
});

describe('cancel', () => {
  test('a ready task and a scheduled one end at once', async () => {
    const baton = client();
    for (const runAt of [undefined, new Date(Date.now() + 60_000)]) {
      const task = await baton.submit({ kind: 'nobody', runAt });
      expect((await task.status()).state).toBe(runAt ? 'scheduled' : 'ready');
      expect(await task.cancel('not wanted')).toBe('cancelled');
      expect(await task.status()).toMatchObject({ state: 'cancelled', cancelReason: 'not wanted', attempts: [] });
      await expect(task.result()).rejects.toBeInstanceOf(TaskCancelled);
      expect(await refusal(task.cancel())).toMatchObject({ code: 'failed_precondition', reason: 'TASK_ENDED' });
    }
  });

  test('a leased task is stopped by its worker', async () => {
    const task = await client().submit({ kind: 'gated', input: { file: newFile() } });
    await reaches(task.id, (state) => state === 'leased');
    expect(await task.cancel('enough')).toBe('leased');
    await expect(task.result()).rejects.toBeInstanceOf(TaskCancelled);
    expect(await task.status()).toMatchObject({
      state: 'cancelled',
      cancelReason: 'enough',
      attempts: [{ number: 1, state: 'cancelled' }],
    });
  });
});

test('a watch tells of each change until the end', async () => {
  const file = newFile();
  const task = await client().submit({ kind: 'gated', input: { file, value: 'done' } });
  const states: string[] = [];
  for await (const view of task.watch()) {
    states.push(view.state);
    if (view.state === 'leased') await open(file);
  }
  expect(states.at(-1)).toBe('succeeded');
  expect(states).toContain('leased');
  expect(new Set(states.filter((state) => isFinalTaskState(state as TaskStateName))).size).toBe(1);
});

describe('logs', () => {
  test('follow a task to its end; a cursor goes on behind what was read', async () => {
    const file = newFile();
    const baton = client();
    const task = await baton.submit({ kind: 'chatty', input: { lines: 30, file } });
    const lines: string[] = [];
    for await (const { text } of task.logs({ follow: true })) {
      lines.push(text);
      if (lines.length === 30) await open(file);
    }
    expect(lines).toEqual([...Array.from({ length: 30 }, (_, i) => `line ${i + 1}`), 'the end']);

    const tasks = createClient(TaskService, createGrpcTransport({ baseUrl: stack().url }));
    let cursor = '';
    for await (const page of tasks.streamTaskLogs({ taskId: task.id })) cursor = page.cursor;
    const behind: string[] = [];
    for await (const page of tasks.streamTaskLogs({ taskId: task.id, cursor }))
      behind.push(...page.logs.map(({ text }) => text));
    expect(behind).toEqual([]);
    const [epoch, sequence] = cursor.split('.');
    const from = `${epoch}.${Number(sequence) - 2}`;
    for await (const page of tasks.streamTaskLogs({ taskId: task.id, cursor: from }))
      behind.push(...page.logs.map(({ text }) => text));
    expect(behind).toEqual(['line 30', 'the end']);
  });
});

describe('retries', () => {
  test('by default 4 attempts, with 5, 10 and 20 s between them', async () => {
    const task = await client().submit({ kind: 'fails', input: { message: 'never well' } });
    const sql = postgres(stack().databaseUrl, { max: 1 });
    try {
      for (const attempt of [1, 2, 3]) {
        // Nobody waits 35 s: as soon as the attempt has failed, the clock of the next one is put forward.
        for await (const view of task.watch()) if (view.state === 'backoff' && view.attempt === attempt) break;
        const { count } = await sql`UPDATE baton.waiting SET due_at = clock_timestamp() WHERE task_id = ${task.id}`;
        expect(count).toBe(1);
      }
    } finally {
      await sql.end();
    }
    const error = await failed(task.result());
    expect(error.message).toContain('never well');
    const { attempts, maxAttempts, failure } = await task.status();
    expect(maxAttempts).toBe(4);
    expect(attempts.map(({ state, retryDelayMs }) => [state, retryDelayMs])).toEqual([
      ['failed', 5_000],
      ['failed', 10_000],
      ['failed', 20_000],
      ['failed', undefined],
    ]);
    expect(failure).toMatchObject({ type: 'EVALUATION_ERROR', message: 'never well', exceptionType: 'RangeError' });
  });

  test('after the delays of the policy', async () => {
    const retry = { maxAttempts: 3, initialDelayMs: 150, factor: 2 };
    const task = await client().submit({ kind: 'fails-times', input: { times: 2 }, retry });
    expect(await task.result()).toBe(3);
    const { attempts } = await task.status();
    expect(attempts.map(({ retryDelayMs }) => retryDelayMs)).toEqual([150, 300, undefined]);
    const gaps = attempts.slice(1).map(({ grantTime }, i) => grantTime!.getTime() - attempts[i]!.endTime!.getTime());
    expect(gaps[0]).toBeGreaterThanOrEqual(149);
    expect(gaps[1]).toBeGreaterThanOrEqual(299);
  });

  test('NonRetryable ends it, RetryAfter sets the delay', async () => {
    const hopeless = await client().submit({ kind: 'hopeless' });
    await failed(hopeless.result());
    expect((await hopeless.status()).attempts).toMatchObject([{ failure: { nonRetryable: true } }]);
    const patient = await client().submit({ kind: 'patient', input: { delayMs: 120 } });
    expect(await patient.result()).toBe(2);
    expect((await patient.status()).attempts[0]).toMatchObject({ retryDelayMs: 120 });
  });
});

describe('results', () => {
  test('one that is too large fails the task for good, saying so', async () => {
    const task = await client().submit({ kind: 'big', input: { bytes: 2 ** 21 } });
    const error = await failed(task.result());
    expect(error.message).toMatch(/the result has 2097154 bytes/);
    expect((await task.status()).attempts).toMatchObject([{ state: 'failed', failure: { nonRetryable: true } }]);
    const fits = await client().submit({ kind: 'big', input: { bytes: 2 ** 21 - 2 } });
    expect((await fits.result()) as string).toHaveLength(2 ** 21 - 2);
  });

  test('bytes stay bytes', async () => {
    const task = await client().submit({ kind: 'reversed', input: Uint8Array.of(1, 2, 255) });
    expect(await task.result()).toEqual(Uint8Array.of(255, 2, 1));
  });
});

describe('idempotency', () => {
  test('the same key gives the same task; another body is refused', async () => {
    const baton = client();
    const submission = { kind: 'echo', input: { a: 1 }, idempotencyKey: 'once' };
    const all = await Promise.all(Array.from({ length: 10 }, () => baton.submit(submission)));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(all.filter(({ deduplicated }) => !deduplicated)).toHaveLength(1);
    const conflict = await refusal(baton.submit({ ...submission, input: { a: 2 } }));
    expect(conflict).toMatchObject({ code: 'failed_precondition', reason: 'IDEMPOTENCY_CONFLICT' });
    // A key belongs to its kind and its namespace.
    expect((await baton.submit({ ...submission, kind: 'sum' })).deduplicated).toBe(false);
    expect((await client('other').submit(submission)).deduplicated).toBe(false);
  });
});

describe('dispatch', () => {
  test('a gpu task waits until a worker of its class is there', async () => {
    const task = await client().submit({ kind: 'echo', input: 'gpu', taskClass: 'gpu' });
    const cpu = await client().submit({ kind: 'echo', input: 'cpu' });
    expect(await cpu.result()).toBe('cpu');
    expect((await task.status()).state).toBe('ready');
    const worker = await stack().addWorker({ name: 'gpu-box', env: { BATON_WORKER_CLASSES: 'gpu' } });
    expect(await task.result()).toBe('gpu');
    expect((await task.status()).worker).toBe('gpu-box');
    await worker.kill('SIGTERM');
  });

  test('tags: all of them, in any case', async () => {
    const task = await client().submit({ kind: 'echo', input: 1, tags: ['Fast', 'site:A'] });
    const half = await stack().addWorker({ name: 'half', env: { BATON_WORKER_TAGS: 'fast' } });
    const other = await client().submit({ kind: 'echo', input: 2, tags: ['fast'] });
    await other.result();
    expect((await task.status()).state).toBe('ready');
    const whole = await stack().addWorker({ name: 'whole', env: { BATON_WORKER_TAGS: 'SITE:a,FAST,more' } });
    await task.result();
    expect((await task.status()).worker).toBe('whole');
    await Promise.all([half.kill('SIGTERM'), whole.kill('SIGTERM')]);
  });

  test('by priority, then in the order of submission, one at a time on one slot', async () => {
    const baton = client('ordered');
    const file = newFile();
    const wanted: [name: string, priority: number][] = [
      ['low', -5],
      ['first', 0],
      ['second', 0],
      ['high', 10],
      ['highest', 1000],
    ];
    const tasks = [];
    for (const [name, priority] of wanted)
      tasks.push(await baton.submit({ kind: 'note', input: { file, name }, priority }));
    const worker = await stack().addWorker({
      name: 'single',
      env: { BATON_WORKER_SLOTS: '1', BATON_NAMESPACE: 'ordered' },
    });
    await Promise.all(tasks.map((task) => task.result()));
    const order = (await readFile(file, 'utf8')).trim().split('\n');
    expect(order).toEqual(['highest', 'high', 'first', 'second', 'low']);
    await worker.kill('SIGTERM');
  });

  test('run_at is kept', async () => {
    const runAt = new Date(Date.now() + 400);
    const task = await client().submit({ kind: 'echo', input: 1, runAt });
    expect((await task.status()).state).toBe('scheduled');
    await task.result();
    expect((await task.status()).attempts[0]!.grantTime!.getTime()).toBeGreaterThanOrEqual(runAt.getTime() - 5);
  });
});
