import { type StreamLogsResponse, WorkerService, WorkerState } from '@baton/contract';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
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
