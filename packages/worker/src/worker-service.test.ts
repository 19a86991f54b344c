import { type StreamLogsResponse, WorkerService, WorkerState } from '@baton/contract';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { reasonOf } from './calls/refusal.ts';
import { type OpenOptions, openWorker, success } from './testing/open-worker.ts';

async function openServed(options: OpenOptions = {}) {
  const opened = await openWorker({ servicePort: 0, ...options });
  await opened.worker.start();
  const transport = createGrpcTransport({ baseUrl: opened.worker.url! });
  return { ...opened, client: createClient(WorkerService, transport) };
}

test('status tells state, what runs, metrics and capabilities, over gRPC and over HTTP/1.1', async () => {
  const { master, worker, executor, client } = await openServed({ slots: 3 });
  expect((await client.getStatus({})).state).toBe(WorkerState.IDLE);
  await master.result(master.submit({ kind: 'noop' }));
  const id = master.submit({ kind: 'hold', attempt: 2, epoch: 9 });
  await executor.running(id);
  const web = createClient(WorkerService, createConnectTransport({ baseUrl: worker.url!, httpVersion: '1.1' }));
  const status = await web.getStatus({});
  expect(status).toMatchObject({
    name: 'test-worker',
    sessionId: master.sessionId,
    state: WorkerState.BUSY,
    masterUrl: master.url,
    version: '0.0.0',
    capabilities: { slots: 3, executors: ['function'] },
    metrics: { running: 1, tasksCompleted: 1n },
    running: [{ taskId: id, attempt: 2, epoch: 9, kind: 'hold' }],
  });
  expect(master.registrations[0]!.serviceUrl).toBe(worker.url);
});

test('a task is submitted through the master for this worker alone, and its end awaited', async () => {
  const { master, client } = await openServed({ tasks: { greet: () => success('hello') } });
  const { task } = await client.executeTask({
    task: { kind: 'greet', tags: ['fast'], payload: { case: 'inputJson', value: '1' } },
  });
  expect(task!.outputPayload).toEqual({ case: 'outputJson', value: '"hello"' });
  expect(master.submits[0]!.task!.tags).toEqual(['fast', 'worker:test-worker']);
});

test('executing answers with the last known state when the time to wait is over', async () => {
  const { client } = await openServed();
  const { task } = await client.executeTask({ task: { kind: 'hold' }, wait: durationFromMs(50) });
  expect(task!.id).not.toBe('');
});

test('a running task is cancelled here, one that is not here is not found', async () => {
  const { master, executor, client } = await openServed();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  await client.cancelTask({ taskId: id, reason: 'by hand' });
  expect((await master.result(id)).outcome.case).toBe('cancelled');
  expect(task.context.signal.reason).toMatchObject({ message: 'by hand' });
  await expect(client.cancelTask({ taskId: id })).rejects.toMatchObject({ code: Code.NotFound });
});

test('what runs here is heard live, of one task or of all', async () => {
  const { master, executor, client } = await openServed();
  const one = master.submit({ kind: 'hold' });
  const two = master.submit({ kind: 'hold' });
  const [first, second] = [await executor.running(one), await executor.running(two)];
  const stop = new AbortController();
  const stream = client.streamLogs({ taskId: two }, { signal: stop.signal });
  const reading = stream[Symbol.asyncIterator]().next() as Promise<IteratorResult<StreamLogsResponse>>;
  // Nobody is told when the listener is there: say it until it is heard.
  const talking = setInterval(() => {
    first.context.log('not asked for');
    second.context.log('heard');
  }, 5);
  const { value } = await reading;
  clearInterval(talking);
  expect(value.lines[0]).toMatchObject({ taskId: two, text: 'heard' });
  expect(new Set(value.lines.map(({ taskId }: { taskId: string }) => taskId))).toEqual(new Set([two]));
  stop.abort();
});

test('the lines of a task end with it; those in memory are read later too, and go on from a cursor', async () => {
  const { master, executor, client } = await openServed();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  task.context.log('one');
  task.context.log('two');
  const stream = client.streamLogs({ taskId: id, recent: 10 })[Symbol.asyncIterator]();
  const { value: first } = await stream.next();
  expect(first.lines.map(({ text }: { text: string }) => text)).toEqual(['one', 'two']);
  task.context.log('three');
  task.end();
  const rest: string[] = [];
  for (let next = await stream.next(); !next.done; next = await stream.next())
    rest.push(...next.value.lines.map(({ text }: { text: string }) => text));
  expect(rest).toEqual(['three']);
  // It has ended; its lines are there for a while.
  await master.result(id);
  const texts = async (request: object) => {
    const found: string[] = [];
    for await (const { lines } of client.streamLogs(request)) found.push(...lines.map(({ text }) => text));
    return found;
  };
  expect(await texts({ taskId: id, follow: false })).toEqual(['one', 'two', 'three']);
  expect(await texts({ follow: false, recent: 1 })).toEqual(['three']);
  expect(await texts({ taskId: id, cursor: first.cursor })).toEqual(['three']);
});

test('the lines of a task that is taken away end, too', async () => {
  const { master, executor, client } = await openServed();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  task.context.log('one');
  const stream = client.streamLogs({ taskId: id, recent: 1 })[Symbol.asyncIterator]();
  await stream.next();
  const end = stream.next();
  await client.cancelTask({ taskId: id });
  expect((await end).done).toBe(true);
});

test('a task that is not here is not found, with the reason and where its lines are', async () => {
  const { client } = await openServed();
  const reading = client.streamLogs({ taskId: '42' })[Symbol.asyncIterator]().next();
  const error = await reading.then(() => undefined, ConnectError.from);
  expect(error).toMatchObject({ code: Code.NotFound, rawMessage: expect.stringContaining('baton task logs 42') });
  expect(reasonOf(error as ConnectError)).toBe('TASK_NOT_HERE');
});

test('drain tells how much is held, then the worker ends', async () => {
  const { master, worker, executor, client } = await openServed();
  const task = await executor.running(master.submit({ kind: 'hold' }));
  expect((await client.drain({ reason: 'by hand' })).held).toBe(1);
  expect((await client.getStatus({})).state).toBe(WorkerState.DRAINING);
  task.end();
  expect(await worker.stopped).toBe('by hand');
});

test('shutdown hands back what is held and ends now', async () => {
  const { master, worker, executor, client } = await openServed();
  const id = master.submit({ kind: 'hold' });
  await executor.running(id);
  await client.shutdown({ reason: 'now' });
  await worker.stopped;
  expect(master.results.get(id)!.outcome.case).toBe('returned');
  expect(master.left).toEqual(['now']);
});
