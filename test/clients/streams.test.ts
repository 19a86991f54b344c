import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BatonError, createBaton, type OutputPart } from '@baton/client';
import { PayloadFormat, TaskService } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { useStack } from '@baton/testkit/vitest';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, expect, test } from 'vitest';
import { detail, post } from './curl.ts';
import { patternBytes } from './stream-tasks.ts';

const stack = useStack({ tasksModule: new URL('./stream-tasks.ts', import.meta.url) });
const dir = mkdtempSync(join(tmpdir(), 'baton-streams-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let gates = 0;
const newGate = () => join(dir, `gate-${++gates}`);
const open = (gate: string) => writeFileSync(gate, '');

const baton = () => createBaton({ url: stack().url });
const overGrpc = () => createClient(TaskService, createGrpcTransport({ baseUrl: stack().url }));

/** Checks each part against the pattern as it comes; keeps none of them. */
async function expectPattern(parts: AsyncIterable<OutputPart>, from: number, to: number): Promise<void> {
  let at = from;
  for await (const part of parts) {
    expect(part.offset).toBe(at);
    expect(Buffer.compare(part.data, patternBytes(at, part.data.length)), `bytes from ${at}`).toBe(0);
    at += part.data.length;
  }
  expect(at).toBe(to);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** The refusal that a call ends with: its code and stable reason. */
async function refusalOf(call: AsyncIterable<unknown> | Promise<unknown>): Promise<[Code, string | undefined]> {
  try {
    if (call instanceof Promise) await call;
    else for await (const _ of call);
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    return [error.code, error.findDetails(errorDetails.ErrorInfoSchema)[0]?.reason];
  }
  return expect.fail('it was taken');
}

test('a task streams 40 MB through a worker and a master that keep a few of them', { timeout: 120_000 }, async () => {
  const bytes = 40_000_000;
  const task = await baton().submit({ kind: 'pours', input: { bytes, block: 300_001 } });
  await expectPattern(task.output(), 0, bytes);
  expect((await task.result()) as object).toEqual({ rssMb: expect.any(Number) });
  // Again, from Postgres alone, and from the middle.
  await expectPattern(task.output({ from: { attempt: 1, offset: bytes - 1_000_003 } }), bytes - 1_000_003, bytes);
});

test('output is followed live, and all of it is there when the result is', async () => {
  const file = newGate();
  const task = await baton().submit({ kind: 'pours', input: { bytes: 5_000, block: 100, file, more: 777 } });
  const parts = task.output()[Symbol.asyncIterator]();
  for (let at = 0; at < 5_000; ) at += (await parts.next()).value!.data.length;
  // The task runs still: it waits for this.
  expect((await task.status()).state).toBe('leased');
  const rest = parts.next();
  open(file);
  expect((await rest).value!.offset).toBe(5_000);
  await task.result();
  await expectPattern(task.output({ follow: false }), 0, 5_777);
});

test('a new attempt begins anew and says so; a reader that goes on in an old one is told', async () => {
  const file = newGate();
  const task = await baton().submit({
    kind: 'stumbles',
    input: { times: 1, file },
    retry: { maxAttempts: 2, initialDelayMs: 10, jitter: 0 },
  });
  const seen: string[] = [];
  let firstEnd: OutputPart['end'] | undefined;
  for await (const { attempt, offset, data, reset, end } of task.output()) {
    seen.push(`${attempt}@${offset}${reset ? ' reset' : ` ${new TextDecoder().decode(data)}`}`);
    if (attempt === 1 && end.offset === 17) {
      firstEnd = end;
      open(`${file}-1`);
    }
    if (attempt === 2 && end.offset === 17) open(`${file}-2`);
  }
  const text = seen.join('|').replaceAll(/\|\d@[1-9]\d* /g, '');
  expect(text).toBe('1@0 attempt 1 goes on|2@0 reset|2@0 attempt 2 goes on');
  const [first] = await collect(task.output({ from: firstEnd }));
  expect(first).toMatchObject({ attempt: 2, offset: 0, reset: true });
  const old = await collect(task.output({ from: { attempt: 1, offset: 8 }, follow: false }));
  expect(old.map(({ data }) => new TextDecoder().decode(data)).join('')).toBe('1 goes on');
});

test('places that there are not, and tasks that there are not, are refused', async () => {
  const client = overGrpc();
  const task = await baton().submit({ kind: 'stumbles', input: { times: 0 } });
  await task.result();
  for (const place of [
    { attempt: 1, offset: 18n },
    { attempt: 2, offset: 1n },
    { epoch: 9, offset: 1n },
  ])
    expect(await refusalOf(client.streamTaskOutput({ taskId: task.id, ...place }))).toEqual([
      Code.InvalidArgument,
      'INVALID_CURSOR',
    ]);
  expect(await refusalOf(client.streamTaskOutput({ taskId: '77' }))).toEqual([Code.NotFound, 'TASK_NOT_FOUND']);
  expect(await refusalOf(client.streamTaskOutput({ taskId: task.id, namespace: 'other' }))).toEqual([
    Code.NotFound,
    'TASK_NOT_FOUND',
  ]);
  expect(await collect(client.streamTaskOutput({ taskId: task.id, attempt: 1, offset: 17n }))).toEqual([]);
});

test('results of 10 000 tasks come once each, over connections that are given up', { timeout: 120_000 }, async () => {
  const client = overGrpc();
  const count = 10_000;
  const submitted = baton();
  const file = newGate();
  const held = await submitted.submit({ kind: 'gated', input: { file, value: 'last' } });
  const ids: string[] = [held.id];
  for (let at = 0; at < count - 1; at += 1_000) {
    const size = Math.min(1_000, count - 1 - at);
    const tasks = Array.from({ length: size }, (_, i) => submitted.submit({ kind: 'echo', input: at + i }));
    ids.push(...(await Promise.all(tasks)).map(({ id }) => id));
  }
  const seen = new Map<string, string>();
  let cursor = '';
  let connections = 0;
  while (seen.size < count) {
    connections += 1;
    let messages = 0;
    const request = { taskIds: ids, includeCompleted: true, cursor, format: PayloadFormat.TEXT };
    for await (const { tasks, cursor: next } of client.streamTaskResults(request)) {
      for (const task of tasks) {
        expect(seen.has(task.id), `${task.id} came twice`).toBe(false);
        seen.set(task.id, String(task.outputPayload.value));
      }
      cursor = next;
      if (seen.size >= count - 1) open(file);
      if (++messages === 7 && seen.size < count) break;
    }
  }
  expect(connections).toBeGreaterThan(5);
  expect(seen.get(held.id)).toBe('"last"');
  expect(
    [...seen.values()]
      .filter((value) => value !== '"last"')
      .map(Number)
      .sort((a, b) => a - b),
  ).toEqual(Array.from({ length: count - 1 }, (_, i) => i));
  // From the last cursor there is nothing left, and the stream says so by its end.
  expect((await collect(client.streamTaskResults({ taskIds: ids, cursor }))).flatMap(({ tasks }) => tasks)).toEqual([]);
  const again = await collect(submitted.tasks.results(ids));
  expect(new Set(again.map(({ id }) => id)).size).toBe(count);
  expect(again).toHaveLength(count);
});

test('results: failures and cancels too, large outputs one by one, without inputs', async () => {
  const client = baton();
  const submits = await Promise.all([
    ...Array.from({ length: 6 }, () => client.submit({ kind: 'big', input: { bytes: 1_500_000 } })),
    client.submit({ kind: 'stumbles', input: { times: 9 }, retry: { maxAttempts: 1 } }),
    client.submit({ kind: 'nobody-can' }),
  ]);
  const ids = submits.map(({ id }) => id);
  await submits.at(-1)!.cancel('not needed');
  const messages: number[] = [];
  const states = new Map<string, string>();
  for await (const { tasks } of client.tasks.resultBatches({ taskIds: ids })) {
    messages.push(tasks.reduce((sum, task) => sum + (typeof task.output === 'string' ? task.output.length : 0), 0));
    for (const task of tasks) {
      expect(task.input).toBeUndefined();
      states.set(task.id, task.state === 'failed' ? (task.failure?.message ?? '') : (task.cancelReason ?? task.state));
    }
  }
  expect(Math.max(...messages)).toBe(1_500_000);
  expect(ids.map((id) => states.get(id))).toEqual([...Array(6).fill('succeeded'), 'it stumbled', 'not needed']);
});

test('results of a whole namespace: what has ended, then what ends', async () => {
  const client = createBaton({ url: stack().url, namespace: 'results' });
  const early = await Promise.all(Array.from({ length: 5 }, () => client.submit({ kind: 'nobody-can' })));
  for (const task of early) await task.cancel('early');
  const seen: string[] = [];
  for await (const { tasks, cursor } of client.tasks.resultBatches({ includeCompleted: true })) {
    seen.push(...tasks.map(({ id }) => id));
    if (seen.length < 5) continue;
    const late = await client.submit({ kind: 'nobody-can' });
    await late.cancel('late');
    for await (const batch of client.tasks.resultBatches({ cursor })) {
      seen.push(...batch.tasks.map(({ id }) => id));
      if (batch.tasks.length > 0) break;
    }
    expect(seen).toEqual([...early.map(({ id }) => id), late.id]);
    break;
  }
});

test('cursors of results that cannot be, and tasks that there are not, are refused', async () => {
  const client = overGrpc();
  const task = await baton().submit({ kind: 'echo', input: 1 });
  await task.result();
  const [first] = await collect(client.streamTaskResults({ taskIds: [task.id], includeCompleted: true }));
  const { cursor } = first!;
  const resume = (changed: string) => refusalOf(client.streamTaskResults({ taskIds: [task.id], cursor: changed }));
  for (const wrong of ['x', '1.2.3', cursor.split('.').slice(0, 3).join('.'), `${cursor}.4`, `${cursor}x`])
    expect(await resume(wrong), wrong).toEqual([Code.InvalidArgument, 'INVALID_CURSOR']);
  const [log, ...place] = cursor.split('.');
  const foreign = `${log!.split('').toReversed().join('')}.${place.join('.')}`;
  expect(await resume(foreign)).toEqual([Code.FailedPrecondition, 'CURSOR_EXPIRED']);
  const ahead = [log, '9'.repeat(18), ...place.slice(1)].join('.');
  expect(await resume(ahead)).toEqual([Code.FailedPrecondition, 'CURSOR_EXPIRED']);
  expect(await refusalOf(client.streamTaskResults({ taskIds: ['77'] }))).toEqual([Code.NotFound, 'TASK_NOT_FOUND']);
  const tooMany = Array.from({ length: 10_001 }, () => '1');
  expect((await refusalOf(client.streamTaskResults({ taskIds: tooMany })))[0]).toBe(Code.InvalidArgument);
});

test('the history of a task that failed once, by one call', async () => {
  const task = await baton().submit({
    kind: 'stumbles',
    input: { times: 1 },
    retry: { maxAttempts: 2, initialDelayMs: 20, jitter: 0 },
  });
  await task.result();
  const { task: shown, entries } = await task.history();
  expect(shown).toMatchObject({ id: task.id, state: 'succeeded', attempt: 2, output: undefined });
  expect(entries.map(({ what, state, attempt }) => [what, state, attempt].filter(Boolean).join(' '))).toEqual([
    'submitted ready',
    'granted leased 1',
    'started 1',
    'attempt_ended 1',
    'backoff backoff',
    'ready ready',
    'granted leased 2',
    'started 2',
    'attempt_ended 2',
    'ended succeeded 2',
  ]);
  expect(entries[3]).toMatchObject({ failure: { message: 'it stumbled' }, retryDelayMs: 20, worker: 'w1', epoch: 1 });
  const times = entries.map(({ time }) => time!.getTime());
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  const answer = await post(stack().url, 'TaskService/GetTaskHistory', { taskId: '77' });
  expect([answer.status, detail(answer, 'ErrorInfo').reason]).toEqual([404, 'TASK_NOT_FOUND']);
});

test('the history says when a cancel was asked for, and why', async () => {
  const file = newGate();
  const task = await baton().submit({ kind: 'gated', input: { file } });
  for await (const { state, startTime } of task.watch()) if (state === 'leased' && startTime) break;
  await task.cancel('changed my mind');
  await task.result().catch((error) => expect(error).not.toBeInstanceOf(BatonError));
  const { entries } = await task.history();
  const told = entries.map(({ what, state, message }) => [what, state, message].filter(Boolean).join(' '));
  // When it began is told by its worker at its end, as how long it ran: some milliseconds late.
  expect(told).toContain('cancel_requested changed my mind');
  expect(told.slice(-2)).toEqual(['attempt_ended', 'ended cancelled changed my mind']);
});
