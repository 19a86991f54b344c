import { BatonError, createBaton, type EventView } from '@baton/client';
import { EventService, EventType } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { startStack } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });

test('a watch resumes from any cursor without loss or repetition, while tasks run', async () => {
  const events = createClient(EventService, createGrpcTransport({ baseUrl: stack().url }));
  const baton = createBaton({ url: stack().url });
  const total = 120;
  const ends = new Set<string>();
  const seen: string[] = [];
  let cursor = '';
  let connections = 0;
  const first = events.watch({ subscriptions: [{ name: 'all' }] })[Symbol.asyncIterator]();
  cursor = (await first.next()).value!.cursor;
  await first.return?.();

  const submitting = (async () => {
    const handles = [];
    for (let i = 0; i < total; i += 10) {
      handles.push(...(await Promise.all(Array.from({ length: 10 }, () => baton.submit({ kind: 'echo', input: i })))));
    }
    return handles;
  })();
  // Every connection is given up after a few batches, and a new one goes on from the last cursor.
  while (ends.size < total) {
    connections++;
    let batches = 0;
    for await (const batch of events.watch({ cursor, subscriptions: [{ name: 'all' }] })) {
      for (const { event } of batch.events) {
        if (event!.taskId === '') continue;
        seen.push(`${event!.taskId} ${EventType[event!.type]} ${event!.attempt}`);
        if (event!.type === EventType.TASK_SUCCEEDED) ends.add(event!.taskId);
      }
      cursor = batch.cursor;
      if (++batches === 3 || ends.size === total) break;
    }
  }
  const ids = (await submitting).map(({ id }) => id);
  expect(ends).toEqual(new Set(ids));
  expect(connections).toBeGreaterThan(1);
  expect(new Set(seen).size, 'nothing twice').toBe(seen.length);
  for (const id of ids) {
    const own = seen.filter((line) => line.startsWith(`${id} `)).map((line) => line.split(' ')[1]);
    expect(own).toEqual(expect.arrayContaining(['TASK_SUBMITTED', 'TASK_LEASED', 'TASK_SUCCEEDED']));
    expect(own.indexOf('TASK_SUBMITTED')).toBeLessThan(own.indexOf('TASK_LEASED'));
    expect(own.at(-1)).toBe('TASK_SUCCEEDED');
  }
});

test('several subscriptions share one stream, each event names those that it matches', async () => {
  const baton = createBaton({ url: stack().url });
  const mine = await baton.submit({ kind: 'echo', input: 1, runAt: new Date(Date.now() + 300) });
  const found: EventView[] = [];
  const subscriptions = [
    { name: 'mine', taskIds: [mine.id] },
    { name: 'ends', types: ['task_succeeded'] as const },
  ];
  for await (const { events } of baton.events.watch({ subscriptions })) {
    found.push(...events);
    if (events.some(({ type, taskId }) => type === 'task_succeeded' && taskId === mine.id)) break;
  }
  const end = found.find(({ type, taskId }) => type === 'task_succeeded' && taskId === mine.id);
  expect(end).toMatchObject({ subscriptions: ['mine', 'ends'], worker: 'w1', attempt: 1 });
  expect(found.find(({ type }) => type === 'task_leased')?.subscriptions).toEqual(['mine']);
});

test('a namespace sees its own events only', async () => {
  const events = createClient(EventService, createGrpcTransport({ baseUrl: stack().url }));
  const stream = events.watch({ namespace: 'quiet' })[Symbol.asyncIterator]();
  const { cursor } = (await stream.next()).value!;
  await stream.return?.();
  const loud = await createBaton({ url: stack().url }).submit({ kind: 'echo', input: 1 });
  await loud.result();
  const own = await createBaton({ url: stack().url, namespace: 'quiet' }).submit({ kind: 'nobody' });
  for await (const batch of events.watch({ namespace: 'quiet', cursor })) {
    if (batch.events.length === 0) continue;
    expect(batch.events.map(({ event }) => event!.taskId)).toEqual(batch.events.map(() => own.id));
    break;
  }
});

test('a cursor of another log, and what is no cursor, are refused', async () => {
  await using other = await startStack({ workers: 0 });
  const cursorOf = async (url: string) => {
    for await (const { cursor } of createClient(EventService, createGrpcTransport({ baseUrl: url })).watch({}))
      return cursor;
    return expect.fail('the stream ended');
  };
  const foreign = await cursorOf(other.url);
  const events = createClient(EventService, createGrpcTransport({ baseUrl: stack().url }));
  const refusal = async (cursor: string) => {
    try {
      for await (const _ of events.watch({ cursor })) break;
    } catch (error) {
      return ConnectError.from(error);
    }
    return expect.fail('the cursor was taken');
  };
  const expired = await refusal(foreign);
  expect(expired.code).toBe(Code.FailedPrecondition);
  expect(expired.findDetails(errorDetails.ErrorInfoSchema)).toMatchObject([{ reason: 'CURSOR_EXPIRED' }]);
  for (const wrong of [
    'x',
    '1.2',
    `${foreign}.4`,
    foreign.replace(/\d+$/, 'x'),
    foreign.replace(/\d+$/, '9'.repeat(19)),
  ]) {
    expect([Code.InvalidArgument, Code.FailedPrecondition], wrong).toContain((await refusal(wrong)).code);
  }
  const own = await cursorOf(stack().url);
  const beyond = own.replace(/^([^.]+)\..*$/, `$1.${'9'.repeat(19)}.${'9'.repeat(19)}`);
  expect([Code.InvalidArgument, Code.FailedPrecondition]).toContain((await refusal(beyond)).code);
  await expect(
    (async () => {
      for await (const _ of createBaton({ url: stack().url }).events.watch({ cursor: foreign })) break;
    })(),
  ).rejects.toBeInstanceOf(BatonError);
});
