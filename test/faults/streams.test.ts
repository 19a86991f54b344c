import { setTimeout as pause } from 'node:timers/promises';
import { createBaton, type OutputPart, type TaskHandle } from '@baton/client';
import { MasterService, TaskService } from '@baton/contract';
import { startFaultProxy } from '@baton/testkit';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { patternBytes } from '../clients/stream-tasks.ts';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;
const tasksModule = new URL('../clients/stream-tasks.ts', import.meta.url);
const retry = { reconnectMs: 60_000, maxDelayMs: 200 };

/** Follows a task's output, checking each part; keeps how far it is, and what attempts it saw. */
function follow(handle: TaskHandle, onPart: (at: number) => void = () => {}) {
  const seen = { at: 0, resets: 0, epoch: 0 };
  const done = (async () => {
    for await (const part of handle.output()) {
      if (part.reset) {
        seen.at = 0;
        seen.resets++;
      }
      seen.epoch = part.epoch;
      check(part, seen.at);
      seen.at += part.data.length;
      onPart(seen.at);
    }
    return seen;
  })();
  done.catch(() => {});
  return { seen, done };
}

function check(part: OutputPart, at: number): void {
  expect(part.offset).toBe(at);
  expect(Buffer.compare(part.data, patternBytes(at, part.data.length)), `bytes from ${at}`).toBe(0);
}

test.concurrent('connections cut again and again, of the worker and of the reader: not a byte is lost or doubled', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, tasksModule });
  const port = Number(new URL(stack.url).port);
  const forWorker = stage.own(await startFaultProxy({ target: { port } }));
  const forReader = stage.own(await startFaultProxy({ target: { port } }));
  await stack.addWorker({ env: { BATON_URL: forWorker.url } });
  const bytes = 12_000_000;
  const task = await createBaton({ url: stack.url }).submit({ kind: 'pours', input: { bytes, block: 77_777 } });
  let cutAt = 0;
  let cuts = 0;
  const reader = follow(createBaton({ url: forReader.url, retry }).tasks.handle(task.id), (at) => {
    if (at - cutAt < 700_000) return;
    cutAt = at;
    cuts++;
    forReader.reset();
    forWorker.reset();
  });
  expect(await reader.done).toMatchObject({ at: bytes, resets: 0 });
  expect(cuts).toBeGreaterThan(5);
  expect(await task.result()).toBeTypeOf('object');
});

test.concurrent('answers to appended output that are lost: it is sent again, and kept once', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, tasksModule });
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } }));
  await stack.addWorker({ env: { BATON_URL: proxy.url } });
  let lost = 0;
  const lose = () => {
    void proxy.loseAnswer({ requestBytes: 50_000 }).then(() => {
      if (++lost < 8) lose();
    });
  };
  lose();
  const bytes = 6_000_000;
  const task = await createBaton({ url: stack.url }).submit({ kind: 'pours', input: { bytes, block: 60_000 } });
  expect(await follow(task).done).toMatchObject({ at: bytes, resets: 0 });
  expect(lost).toBeGreaterThan(2);
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const [row] = await ledger.sql`select sum(length(data))::int as bytes from baton.task_outputs`;
  expect(row!.bytes).toBe(bytes);
});

test.concurrent('a worker is killed in the middle of an output: the next attempt begins anew, the reader is told', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 1, tasksModule, env: { BATON_LEASE_TTL_MS: '8000' } });
  const baton = createBaton({ url: stack.url });
  const file = `${stage.dir}/open`;
  const task = await baton.submit({ kind: 'pours', input: { bytes: 3_000_000, block: 50_000, file, more: 1_000_000 } });
  const reader = follow(task);
  await until(() => reader.seen.at === 3_000_000, 'the first part');
  await stack.workers[0]!.kill();
  await stack.addWorker({ name: 'w2' });
  await until(() => reader.seen.resets === 1 && reader.seen.at === 3_000_000, 'the first part again');
  stage.open();
  expect(await reader.done).toMatchObject({ at: 4_000_000, resets: 1, epoch: 2 });
  const { entries } = await task.history();
  expect(entries.filter(({ what }) => what === 'attempt_ended').map(({ attemptState }) => attemptState)).toEqual([
    'lost',
    'succeeded',
  ]);
});

test.concurrent('a master is killed and comes back while output and results are followed: both go on where they were', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({
    workers: 1,
    tasksModule,
    env: { BATON_LEASE_TTL_MS: '15000', BATON_HEARTBEAT_MS: '500', BATON_WORKER_SLOTS: '64' },
  });
  const baton = createBaton({ url: stack.url, retry });
  const file = `${stage.dir}/open`;
  const task = await baton.submit({ kind: 'pours', input: { bytes: 2_000_000, block: 50_000, file, more: 2_000_000 } });
  const others = await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      baton.submit({ kind: i % 10 === 0 ? 'gated' : 'echo', input: { file, value: i } }),
    ),
  );
  const ends: string[] = [];
  const results = (async () => {
    for await (const { id } of baton.tasks.results([task.id, ...others.map(({ id }) => id)])) ends.push(id);
  })();
  const reader = follow(task);
  await until(() => reader.seen.at === 2_000_000 && ends.length > 10, 'the first part, and some ends');
  await stack.master.restart();
  // Once more, told to stop: what is followed is not ended by that as if it were complete.
  await until(() => stack.master.running, 'the master');
  await stack.master.kill('SIGTERM');
  stack.master.relaunch();
  await stack.master.serving;
  stage.open();
  expect(await reader.done).toMatchObject({ at: 4_000_000, resets: 0, epoch: 1 });
  await results;
  expect(ends).toHaveLength(301);
  expect(new Set(ends).size).toBe(301);
});

test.concurrent('output of a lease that is over is refused, and changes nothing', { timeout }, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, tasksModule });
  const master = createClient(MasterService, createGrpcTransport({ baseUrl: stack.url }));
  const baton = createBaton({ url: stack.url });
  const { sessionId } = await master.registerWorker({
    name: 'raw',
    instanceId: 'raw-instance',
    protocolVersion: 1,
    capabilities: { executors: ['function'], kinds: ['raw'], slots: 1 },
  });
  const task = await baton.submit({ kind: 'raw' });
  const { leases } = await master.exchange({
    sessionId,
    number: 1n,
    offer: { number: 1n, freeSlots: 1 },
    waitMs: 5_000,
  });
  const [lease] = leases;
  expect(lease!.taskId).toBe(task.id);
  const chunk = (offset: number, text: string, epoch = 1) => ({
    taskId: task.id,
    epoch,
    offset: BigInt(offset),
    data: new TextEncoder().encode(text),
  });
  const append = (...chunks: ReturnType<typeof chunk>[]) => master.appendOutput({ sessionId, chunks });
  expect((await append(chunk(0, 'abc'), chunk(3, 'def'))).refused).toEqual([]);
  expect((await append(chunk(0, 'abc'), chunk(3, 'def'))).refused, 'again').toEqual([]);
  expect((await append(chunk(9, 'x'))).refused).toMatchObject([{ reason: 'OUTPUT_GAP', expectedOffset: 6n }]);
  expect((await append(chunk(6, 'x', 2))).refused).toMatchObject([{ reason: 'LEASE_LOST' }]);
  await master.exchange({
    sessionId,
    number: 2n,
    results: [
      { taskId: task.id, epoch: 1, outcome: { case: 'success', value: { output: new Uint8Array([49]), encoding: 1 } } },
    ],
  });
  expect((await append(chunk(6, 'late'))).refused).toMatchObject([{ reason: 'LEASE_LOST' }]);
  const parts = createClient(TaskService, createGrpcTransport({ baseUrl: stack.url })).streamTaskOutput({
    taskId: task.id,
  });
  let text = '';
  for await (const { data } of parts) text += new TextDecoder().decode(data);
  expect(text).toBe('abcdef');
});

test.concurrent('a success is not acknowledged before its output, however long that takes', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({
    workers: 0,
    tasksModule,
    env: { BATON_LEASE_TTL_MS: '10000', BATON_HEARTBEAT_MS: '500' },
  });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  await stack.addWorker();
  const baton = createBaton({ url: stack.url });
  // Whoever writes output waits for this lock; whoever completes does not.
  const blocker = openLedger(stack.databaseUrl).sql;
  await blocker.unsafe('begin; lock table baton.task_outputs in exclusive mode');
  const task = await baton.submit({ kind: 'pours', input: { bytes: 1_000, block: 100 } });
  await until(async () => {
    const [row] = await ledger.sql`select count(*)::int as waiting from pg_locks where not granted`;
    return row!.waiting > 0;
  }, 'output that waits');
  await pause(500);
  expect((await task.status()).state).toBe('leased');
  await blocker.unsafe('commit');
  await blocker.end();
  await task.result();
  const [row] = await ledger.sql`select sum(length(data))::int as bytes from baton.task_outputs`;
  expect(row!.bytes).toBe(1_000);
});
