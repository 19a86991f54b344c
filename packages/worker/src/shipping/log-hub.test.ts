import { connect, type Socket } from 'node:net';
import { type LogLine, LogLineSchema, WorkerService } from '@baton/contract';
import { serve } from '@baton/server';
import { create } from '@bufbuild/protobuf';
import { expect, onTestFinished, test, vi } from 'vitest';
import { workerService } from '../worker-service.ts';
import { type FollowOptions, type LogBatch, LogHub } from './log-hub.ts';

const sequences = new Map<string, number>();
function line(taskId: string, text: string, epoch = 1): LogLine {
  const sequence = (sequences.get(`${taskId} ${epoch}`) ?? 0) + 1;
  sequences.set(`${taskId} ${epoch}`, sequence);
  return create(LogLineSchema, { taskId, epoch, attempt: epoch, sequence: BigInt(sequence), text, stream: 'log' });
}

let tasks = 0;
function open(limits?: ConstructorParameters<typeof LogHub>[0]) {
  const hub = new LogHub(limits);
  const [one, two] = [`${++tasks}`, `${++tasks}`];
  const say = (taskId: string, ...texts: string[]) => {
    for (const text of texts) hub.publish(line(taskId, text));
  };
  const stop = new AbortController();
  const follow = (options: Partial<FollowOptions> = {}) =>
    hub.follow({ taskId: '', recent: 0, isOver: () => false, ...options }, stop.signal);
  /** All that there is now. */
  const all = async (options: Partial<FollowOptions> = {}) => {
    const batches: LogBatch[] = [];
    for await (const batch of follow({ recent: Number.POSITIVE_INFINITY, isOver: () => true, ...options }))
      batches.push(batch);
    return {
      texts: batches.flatMap(({ lines }) => lines.map(({ text }) => text)),
      cursor: batches.at(-1)?.cursor,
      skipped: batches.reduce((sum, { skipped }) => sum + skipped, 0),
      batches: batches.length,
    };
  };
  return { hub, one, two, say, stop, follow, all };
}
const textsOf = (result: IteratorResult<{ lines: LogLine[] }>) => result.value?.lines.map(({ text }: LogLine) => text);

test('lines come as they are written, of one task or of all', async () => {
  const { one, two, say, follow } = open();
  const [ofAll, ofTwo] = [follow(), follow({ taskId: two })];
  const [first, second] = [ofAll.next(), ofTwo.next()];
  say(one, 'a');
  say(two, 'b', 'c');
  expect(textsOf(await first)).toEqual(['a', 'b', 'c']);
  expect(textsOf(await second)).toEqual(['b', 'c']);
});

test('a reader begins with the newest lines where it asks for them, else with what comes', async () => {
  const { one, two, say, all, follow } = open();
  say(one, '1', '2', '3');
  say(two, 'x');
  expect((await all()).texts).toEqual(['1', '2', '3', 'x']);
  expect((await all({ recent: 2 })).texts).toEqual(['3', 'x']);
  expect((await all({ recent: 2, taskId: one })).texts).toEqual(['2', '3']);
  expect((await all({ recent: 0 })).texts).toEqual([]);
  const next = follow().next();
  say(one, '4');
  expect(textsOf(await next)).toEqual(['4']);
});

test('a cursor goes on without loss or repetition, and tells what is lost', async () => {
  const { one, two, say, all } = open({ maxLines: 4 });
  say(one, '1', '2');
  const { cursor } = await all();
  const ofOne = (await all({ taskId: one })).cursor;
  say(two, 'x');
  say(one, '3');
  expect(await all({ cursor })).toMatchObject({ texts: ['x', '3'], skipped: 0 });
  expect(await all({ cursor: ofOne, taskId: one })).toMatchObject({ texts: ['3'], skipped: 0 });
  say(two, 'y', 'z');
  say(one, '4', '5');
  expect(await all({ cursor })).toMatchObject({ texts: ['y', 'z', '4', '5'], skipped: 2 });
  // Of the other task more is gone; of this one, one line.
  expect(await all({ cursor: ofOne, taskId: one })).toMatchObject({ texts: ['4', '5'], skipped: 1 });
  expect((await all({ cursor: (await all()).cursor })).texts).toEqual([]);
});

test('a cursor of an earlier life of the worker stands before all that there is', async () => {
  const { one, say, all } = open();
  const old = open();
  old.say(old.one, 'gone');
  const { cursor } = await old.all();
  say(one, '1', '2');
  expect((await all({ cursor })).texts).toEqual(['1', '2']);
  expect((await all({ cursor: 'nonsense' })).texts).toEqual(['1', '2']);
});

test('a reader that does not read holds nothing up, and is told what it has missed', async () => {
  const { one, two, say, follow, hub } = open({ maxLines: 100 });
  const ofAll = follow();
  const ofOne = follow({ taskId: one, last: { epoch: 1, sequence: 0n } });
  const waiting = [ofAll.next(), ofOne.next()];
  say(one, 'first');
  await Promise.all(waiting);
  for (let i = 0; i < 100_000; i++) say(i % 2 === 0 ? one : two, `${i}`);
  const all = (await ofAll.next()).value!;
  expect(all.skipped).toBe(100_000 - 100);
  expect(all.lines.map(({ text }: LogLine) => text)).toEqual(Array.from({ length: 100 }, (_, i) => `${99_900 + i}`));
  const some = (await ofOne.next()).value!;
  expect(some.skipped).toBe(50_000 - 50);
  expect(some.lines).toHaveLength(50);
  expect(hub.followers).toBe(2);
});

test('long lines are bounded by their bytes, and messages stay small', async () => {
  const { one, say, all } = open({ maxBytes: 2_000_000 });
  for (let i = 0; i < 100; i++) say(one, String(i).padEnd(32_000, '.'));
  const { texts, batches } = await all();
  expect(texts).toHaveLength(62);
  expect(texts.at(-1)).toMatch(/^99/);
  expect(batches).toBeGreaterThan(3);
});

test('the stream of a task ends with it, once all of its lines are read', async () => {
  const { hub, one, say, follow } = open();
  let isOver = false;
  const reader = follow({ taskId: one, isOver: () => isOver });
  const first = reader.next();
  say(one, 'last');
  isOver = true;
  hub.ended(one);
  expect(textsOf(await first)).toEqual(['last']);
  expect((await reader.next()).done).toBe(true);
  expect(hub.followers).toBe(0);
});

test('a reader that leaves, or is told to, is forgotten', async () => {
  const { hub, one, say, follow, stop } = open();
  const leaver = follow({ recent: 10 });
  say(one, 'x');
  await leaver.next();
  await leaver.return(undefined);
  expect(hub.followers).toBe(0);
  const waiting = follow().next();
  expect(hub.followers).toBe(1);
  stop.abort();
  expect((await waiting).done).toBe(true);
  expect(hub.followers).toBe(0);
});

test('a client that breaks its connection is forgotten, also one that has stopped reading', async () => {
  const { hub, one, say } = open();
  const faults: unknown[] = [];
  const server = await serve({
    port: 0,
    services: [WorkerService],
    onError: (error) => faults.push(error),
    routes: (router, { closing }) => {
      const options = { name: 'w', hub, closing, runtime: { session: undefined } };
      router.service(WorkerService, workerService(options as unknown as Parameters<typeof workerService>[0]));
    },
  });
  onTestFinished(() => server.close());
  const sockets = [0, 1].map(() => {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.write(
      'POST /baton.v1.WorkerService/StreamLogs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/connect+json\r\ncontent-length: 7\r\n\r\n',
    );
    socket.write(Buffer.from([0, 0, 0, 0, 2, 0x7b, 0x7d]));
    return socket;
  });
  await vi.waitUntil(() => hub.followers === 2);
  const [reads, deaf] = sockets as [Socket, Socket];
  reads.on('data', () => {});
  // Far more than a connection holds; the hub has no more of it than its bound.
  for (let i = 0; i < 2_000; i++) {
    say(one, 'x'.repeat(30_000));
    if (i % 50 === 0) await new Promise(setImmediate);
  }
  deaf.destroy();
  await vi.waitUntil(() => hub.followers === 1);
  reads.destroy();
  await vi.waitUntil(() => hub.followers === 0);
  await server.close();
  expect(faults).toEqual([]);
});

test('what is in memory is known by its task', () => {
  const { hub, one, two, say } = open({ maxLines: 2 });
  expect(hub.has(one)).toBe(false);
  say(one, 'x');
  expect(hub.has(one)).toBe(true);
  say(two, 'x', 'y');
  expect(hub.has(one)).toBe(false);
});
