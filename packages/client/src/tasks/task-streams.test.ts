import { AttemptState, FailureType, TaskState } from '@baton/contract';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { createBaton } from '../baton.ts';
import { FakeBaton } from '../testing/index.ts';
import type { OutputPart } from './task-streams.ts';

function setUp() {
  const fake = new FakeBaton();
  return {
    fake,
    baton: createBaton({ transport: fake.transport, retry: { attempts: 3, baseDelayMs: 1, maxDelayMs: 2 } }),
  };
}

const textOf = (parts: readonly OutputPart[]) => parts.map(({ data }) => new TextDecoder().decode(data)).join('');

test('output goes on from the byte where the connection broke, by itself', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.submit({ kind: 'stream' });
  fake.addOutput(handle.id, 'one ');
  const parts: OutputPart[] = [];
  for await (const part of handle.output()) {
    parts.push(part);
    if (parts.length > 3) continue;
    fake.cutStreams();
    fake.addOutput(handle.id, `more${parts.length} `);
    if (parts.length === 3) fake.succeedTask(handle.id, 'null');
  }
  expect(textOf(parts)).toBe('one more1 more2 more3 ');
  expect(parts.map(({ offset }) => offset)).toEqual([0, 4, 10, 16]);
  expect(fake.calls.filter((call) => call === 'streamTaskOutput').length).toBeGreaterThan(1);
});

test('output of a new attempt says that what came before is void', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.submit({ kind: 'stream' });
  fake.addOutput(handle.id, 'half');
  const parts: OutputPart[] = [];
  for await (const part of handle.output()) {
    parts.push(part);
    if (parts.length === 1) fake.addOutput(handle.id, 'whole', 2);
    if (parts.length === 3) fake.succeedTask(handle.id, 'null');
  }
  expect(parts.map(({ attempt, reset, offset }) => [attempt, reset, offset])).toEqual([
    [1, false, 0],
    [2, true, 0],
    [2, false, 0],
  ]);
  expect(parts.at(-1)!.end).toEqual({ attempt: 2, epoch: 2, offset: 5 });
  const rest: OutputPart[] = [];
  for await (const part of handle.output({ from: { attempt: 2, offset: 2 }, follow: false })) rest.push(part);
  expect(textOf(rest)).toBe('ole');
});

test('results come once each, in the order of their ends, over broken connections, and end with the last', async () => {
  const { fake, baton } = setUp();
  const handles = await Promise.all(['a', 'b', 'c'].map((kind) => baton.submit({ kind })));
  const ids = handles.map(({ id }) => id);
  fake.succeedTask(ids[2]!, '"third"');
  const seen: unknown[] = [];
  for await (const task of baton.tasks.results(ids)) {
    seen.push([task.id, task.state, task.output ?? task.failure?.message]);
    fake.cutStreams();
    if (seen.length === 1) fake.failTask(ids[0]!, { type: FailureType.EVALUATION_ERROR, message: 'no' });
    if (seen.length === 2) fake.succeedTask(ids[1]!, '2');
  }
  expect(seen).toEqual([
    [ids[2], 'succeeded', 'third'],
    [ids[0], 'failed', 'no'],
    [ids[1], 'succeeded', 2],
  ]);
  for await (const _ of baton.tasks.results([])) expect.fail('nothing was asked for');
});

test('result batches carry the cursor from which another program goes on', async () => {
  const { fake, baton } = setUp();
  const handles = await Promise.all(['a', 'b'].map((kind) => baton.submit({ kind })));
  for (const { id } of handles) fake.succeedTask(id, 'null');
  for await (const { tasks, cursor } of baton.tasks.resultBatches()) {
    expect(tasks.map(({ id }) => id)).toEqual([handles[0]!.id]);
    for await (const next of baton.tasks.resultBatches({ cursor })) {
      expect(next.tasks.map(({ id }) => id)).toEqual([handles[1]!.id]);
      break;
    }
    break;
  }
});

test('history is told in words', async () => {
  const { fake, baton } = setUp();
  const handle = await baton.submit({ kind: 'k' });
  fake.setHistory(handle.id, [
    { what: 'submitted', state: TaskState.READY, time: timestampFromMs(1_000) },
    {
      what: 'attempt_ended',
      attempt: 1,
      epoch: 2,
      worker: 'w1',
      attemptState: AttemptState.FAILED,
      failure: { type: FailureType.OUT_OF_MEMORY, message: 'too big' },
      retryDelay: durationFromMs(1_500),
    },
    { what: 'checkpoint', checkpoint: 7n },
  ]);
  fake.failNext('getTaskHistory', new ConnectError('gone', Code.Unavailable));
  const { task, entries } = await handle.history();
  expect(task.id).toBe(handle.id);
  expect(entries).toEqual([
    { what: 'submitted', state: 'ready', time: new Date(1_000), message: '' },
    {
      what: 'attempt_ended',
      attempt: 1,
      epoch: 2,
      worker: 'w1',
      attemptState: 'failed',
      failure: { type: 'OUT_OF_MEMORY', message: 'too big', nonRetryable: false },
      retryDelayMs: 1_500,
      message: '',
    },
    { what: 'checkpoint', checkpoint: '7', message: '' },
  ]);
});
