// What a worker answers where it can be reached, from outside, by JSON and by streams.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createBaton } from '@baton/client';
import { SystemService, TaskService, TaskState, WorkerService, WorkerState } from '@baton/contract';
import type { Child } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { curl, post } from './curl.ts';

const stack = useStack({
  workers: [{ name: 'w1' }, { name: 'w2' }],
  tasksModule: new URL('./tasks.ts', import.meta.url),
});
const of = (worker: Child) => createClient(WorkerService, createGrpcTransport({ baseUrl: worker.url }));
const system = () => createClient(SystemService, createGrpcTransport({ baseUrl: stack().url }));
const cli = fileURLToPath(new URL('./bin.ts', import.meta.resolve('@baton/cli')));
let files = 0;
const newFile = () => join(stack().home, `file-${++files}`);
const json = (value: unknown) => ({ case: 'inputJson' as const, value: JSON.stringify(value) });

/** Asks the worker until its status is as wanted. */
async function until(
  worker: Child,
  isWanted: (status: { running: { taskId: string }[]; state: WorkerState }) => boolean,
) {
  for (;;) {
    const status = await of(worker).getStatus({});
    if (isWanted(status)) return status;
  }
}

test('status says who it is, what it can and what runs', async () => {
  const worker = stack().worker('w1');
  const { body } = await post(worker.url, 'WorkerService/GetStatus', {});
  expect(body).toMatchObject({
    name: 'w1',
    state: 'WORKER_STATE_IDLE',
    masterUrl: stack().url,
    capabilities: { slots: 4, pid: worker.pid, executors: ['function', 'grpc', 'process', 'http'] },
  });
  expect(body.capabilities.kinds).toContain('echo');
  const read = await curl([`${worker.url}/baton.v1.WorkerService/GetStatus?encoding=json&message=%7B%7D`]);
  expect(read.body.sessionId).toBe(body.sessionId);

  const file = newFile();
  const running = of(worker).executeTask({ task: { kind: 'gated', payload: json({ file }) } });
  const status = await until(worker, ({ running }) => running.length > 0);
  expect(status).toMatchObject({ state: WorkerState.BUSY, running: [{ kind: 'gated', attempt: 1 }] });
  await writeFile(file, '');
  expect((await running).task!.state).toBe(TaskState.SUCCEEDED);
  expect((await of(worker).getStatus({})).metrics!.tasksCompleted).toBeGreaterThan(0n);
});

test('executes a task itself, through the master and with all that a task has', async () => {
  for (const name of ['w1', 'w2']) {
    const { body, status } = await post(stack().worker(name).url, 'WorkerService/ExecuteTask', {
      task: { kind: 'sum', input: { a: 1, b: 2 }, tags: [], labels: { why: 'direct' } },
    });
    expect(status, JSON.stringify(body)).toBe(200);
    expect(body.task).toMatchObject({
      state: 'TASK_STATE_SUCCEEDED',
      output: 3,
      worker: name,
      tags: [`worker:${name}`],
      labels: { why: 'direct' },
    });
    const kept = await createBaton({ url: stack().url }).tasks.get(body.task.id);
    expect(kept).toMatchObject({ state: 'succeeded', attempts: [{ worker: name }] });
  }
});

test('answers when the wait is over; the task goes on', async () => {
  const file = newFile();
  const { task } = await of(stack().worker('w1')).executeTask({
    task: { kind: 'gated', payload: json({ file, value: 'later' }) },
    wait: durationFromMs(150),
  });
  expect([TaskState.READY, TaskState.LEASED]).toContain(task!.state);
  await writeFile(file, '');
  expect(await createBaton({ url: stack().url }).tasks.handle(task!.id).result()).toBe('later');
});

test('cancels what runs here; the master learns of it', async () => {
  const worker = stack().worker('w1');
  const running = of(worker).executeTask({ task: { kind: 'gated', payload: json({ file: newFile() }) } });
  const status = await until(worker, ({ running }) => running.length > 0);
  await of(worker).cancelTask({ taskId: status.running[0]!.taskId, reason: 'enough' });
  const { task } = await running;
  expect(task!.state).toBe(TaskState.CANCELLED);
  const error = await of(worker)
    .cancelTask({ taskId: task!.id })
    .catch((thrown: unknown) => ConnectError.from(thrown));
  expect(error).toMatchObject({ code: Code.NotFound });
});

test('streams what runs here as it is written', async () => {
  const file = newFile();
  const tasks = createClient(TaskService, createGrpcTransport({ baseUrl: stack().url }));
  const { taskId } = await tasks.submitTask({
    task: { kind: 'ticks', payload: json({ file }), tags: ['worker:w2'] },
  });
  const lines: string[] = [];
  for await (const batch of of(stack().worker('w2')).streamLogs({ taskId })) {
    if (lines.length === 0) await writeFile(file, '');
    lines.push(...batch.lines.map(({ text }) => text));
    if (lines.includes('the end')) break;
  }
  const ticks = lines.slice(0, -1).map((line) => Number(/^tick (\d+)$/.exec(line)?.[1]));
  expect(ticks).toEqual(ticks.map((_, i) => ticks[0]! + i));
  expect(lines.at(-1)).toBe('the end');
});

test('the lines of a task end with it; what is in memory is read later', async () => {
  const worker = stack().worker('w2');
  const baton = createBaton({ url: stack().url });
  const file = newFile();
  await writeFile(file, '');
  const task = await baton.submit({ kind: 'ticks', input: { file }, tags: ['worker:w2'] });
  const textsOf = async (request: object) => {
    const lines: string[] = [];
    for await (const batch of of(worker).streamLogs(request)) lines.push(...batch.lines.map(({ text }) => text));
    return lines;
  };
  const live = await textsOf({ taskId: task.id, recent: 10_000 });
  expect(live.at(-1)).toBe('the end');
  await task.result();
  expect(await textsOf({ taskId: task.id, follow: false })).toEqual(live);
  const seen: string[] = [];
  for await (const { text, taskId } of baton.workers.logs('w2', { taskId: task.id })) seen.push(`${taskId} ${text}`);
  expect(seen).toEqual(live.map((text) => `${task.id} ${text}`));
  const words = ['worker', 'logs', 'w2', '--task', task.id, '--recent', '1', '--url', stack().url];
  const { stdout } = await promisify(execFile)(process.execPath, [cli, ...words], {
    env: { ...process.env, LOG_DIR: stack().home },
  });
  expect(stdout).toMatch(new RegExp(`^\\S+ \\S+ ${task.id} 1 log +the end\n$`));
  const absent = await baton.workers
    .logs('w1', { taskId: task.id })
    .next()
    .catch((thrown: unknown) => thrown);
  expect(absent).toMatchObject({ code: 'not_found', reason: 'TASK_NOT_HERE' });
  const error = await textsOf({ taskId: '999999' }).catch((thrown: unknown) => ConnectError.from(thrown));
  expect(error).toMatchObject({ code: Code.NotFound, rawMessage: expect.stringContaining('worker w2') });
});

/** Opens a stream as curl would; nothing of the answer is read until somebody does. */
async function openStream(worker: Child, body: object): Promise<IncomingMessage> {
  const message = Buffer.from(JSON.stringify(body));
  const head = Buffer.from([0, 0, 0, 0, message.length]);
  const asked = request(`${worker.url}/baton.v1.WorkerService/StreamLogs`, {
    method: 'POST',
    headers: { 'content-type': 'application/connect+json', 'content-length': head.length + message.length },
  });
  asked.end(Buffer.concat([head, message]));
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  return answer;
}

async function* messagesOf(answer: IncomingMessage) {
  let rest = Buffer.alloc(0);
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
      const end = 5 + rest.readUInt32BE(1);
      yield JSON.parse(rest.toString('utf8', 5, end)) as { lines: { text: string }[]; skipped?: string };
      rest = rest.subarray(end);
    }
  }
}

test('a reader that does not read and one that goes away in the middle slow nothing down', {
  timeout: 120_000,
}, async () => {
  const worker = await stack().addWorker({
    name: 'loud',
    tasksModule: new URL('./stream-tasks.ts', import.meta.url),
  });
  const baton = createBaton({ url: stack().url });
  const babble = (lines: number) =>
    baton.submit({ kind: 'babbles', input: { lines, bytes: 400, turnEvery: 100 }, tags: ['worker:loud'] });
  await (await babble(1_000)).result();
  const deaf = await openStream(worker, { recent: 1 });
  const gone = await openStream(worker, { recent: 1 });
  const lines = 60_000;
  const task = await babble(lines);
  await once(gone, 'data');
  gone.destroy();
  await task.result();
  expect((await of(worker).getStatus({})).running).toEqual([]);
  // Each line is read, or told to be missed; the last one is there.
  let heard = 0;
  let skipped = 0;
  for await (const message of messagesOf(deaf)) {
    heard += message.lines.length;
    skipped += Number(message.skipped ?? 0);
    if (message.lines.at(-1)!.text.startsWith(`${lines} `)) break;
  }
  expect(skipped).toBeGreaterThan(0);
  expect(heard + skipped).toBe(1 + lines);
});

test('drains: takes no new work, finishes what it holds, leaves, ends', async () => {
  const worker = await stack().addWorker({ name: 'leaver' });
  const baton = createBaton({ url: stack().url });
  const file = newFile();
  const held = await baton.submit({ kind: 'gated', input: { file, value: 'kept' }, tags: ['worker:leaver'] });
  await until(worker, ({ running }) => running.length > 0);
  expect(await of(worker).drain({ reason: 'maintenance' })).toMatchObject({ held: 1 });
  expect((await of(worker).getStatus({})).state).toBe(WorkerState.DRAINING);
  const late = await baton.submit({ kind: 'echo', input: 1, tags: ['worker:leaver'] });
  await writeFile(file, '');
  expect(await held.result()).toBe('kept');
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  expect((await late.status()).state).toBe('ready');
  await late.cancel();
  const { workers } = await system().listWorkers({ includeGone: true });
  expect(workers.find(({ name }) => name === 'leaver')?.state).toBe(WorkerState.STOPPED);
  expect((await system().listWorkers({})).workers.map(({ name }) => name)).not.toContain('leaver');
});

test('the master drains a worker too', async () => {
  const worker = await stack().addWorker({ name: 'told' });
  await system().drainWorker({ name: 'told', reason: 'from above' });
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  const error = await system()
    .drainWorker({ name: 'never-was' })
    .catch((thrown: unknown) => ConnectError.from(thrown));
  expect(error).toMatchObject({ code: Code.NotFound });
});

test('shuts down at once: what it holds goes back and costs no attempt', async () => {
  const first = await stack().addWorker({ name: 'hasty', env: { BATON_WORKER_TAGS: 'pool' } });
  const file = newFile();
  const baton = createBaton({ url: stack().url });
  const task = await baton.submit({ kind: 'gated', input: { file, value: 'done' }, tags: ['pool'] });
  await until(first, ({ running }) => running.length > 0);
  await of(first).shutdown({ graceful: false, reason: 'now' });
  expect((await first.exited).code).toBe(0);
  await writeFile(file, '');
  await stack().addWorker({ name: 'heir', env: { BATON_WORKER_TAGS: 'pool' } });
  expect(await task.result()).toBe('done');
  const { attempts, worker } = await task.status();
  expect(worker).toBe('heir');
  expect(attempts.map(({ state }) => state)).toEqual(['returned', 'succeeded']);
});

test('shuts down gracefully', async () => {
  const worker = await stack().addWorker({ name: 'polite' });
  const file = newFile();
  const running = createBaton({ url: stack().url }).submit({
    kind: 'gated',
    input: { file, value: 1 },
    tags: ['worker:polite'],
  });
  await until(worker, ({ running }) => running.length > 0);
  await of(worker).shutdown({ graceful: true });
  await writeFile(file, '');
  expect(await (await running).result()).toBe(1);
  expect(await worker.exited).toEqual({ code: 0, signal: null });
});
