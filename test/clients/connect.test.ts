// Connect's own clients for Node, in each protocol that the one port speaks.
import { EventService, SystemService, TaskService, TaskState, WorkerService, WorkerState } from '@baton/contract';
import { errorDetails, health, reflectionV1, reflectionV1alpha } from '@baton/contract/grpc';
import { useStack } from '@baton/testkit/vitest';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { describe, expect, test } from 'vitest';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });

const protocols: Record<string, (baseUrl: string) => Transport> = {
  'gRPC over h2c': (baseUrl) => createGrpcTransport({ baseUrl }),
  'gRPC-Web over HTTP/1.1': (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  'gRPC-Web over HTTP/2': (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '2' }),
  'Connect over HTTP/1.1': (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1' }),
  'Connect over HTTP/2, binary': (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: '2', useBinaryFormat: true }),
  'Connect over HTTP/1.1, reads by GET': (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: '1.1', useHttpGet: true }),
};

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const thrown = await call.then(
    () => expect.fail('the call should have failed'),
    (error: unknown) => error,
  );
  return ConnectError.from(thrown);
}

describe.for(Object.entries(protocols))('%s', ([, transportTo]) => {
  test('submits, watches to the end, reads the output', async () => {
    const tasks = createClient(TaskService, transportTo(stack().url));
    const { taskId } = await tasks.submitTask({
      task: { kind: 'sum', payload: { case: 'inputJson', value: '{"a":40,"b":2}' } },
    });
    const states: TaskState[] = [];
    for await (const { task } of tasks.watchTask({ taskId })) states.push(task!.state);
    expect(states.at(-1)).toBe(TaskState.SUCCEEDED);
    const { task, attempts } = await tasks.getTask({ taskId });
    expect(task!.outputPayload.case === 'output' && task!.outputPayload.value.kind.value).toBe(42);
    expect(attempts).toHaveLength(1);
  });

  test('errors carry code, words and details', async () => {
    const tasks = createClient(TaskService, transportTo(stack().url));
    const error = await failure(tasks.submitTask({ task: { kind: '', priority: 5000 } }));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.rawMessage).toContain('task.kind: must be at least 1 characters');
    expect(error.findDetails(errorDetails.ErrorInfoSchema)).toMatchObject([
      { reason: 'INVALID_REQUEST', domain: 'baton' },
    ]);
    const [bad] = error.findDetails(errorDetails.BadRequestSchema);
    expect(bad!.fieldViolations.map(({ field }) => field)).toEqual(
      expect.arrayContaining(['task.kind', 'task.priority']),
    );
  });

  test('a deadline ends a wait and a stream', async () => {
    const tasks = createClient(TaskService, transportTo(stack().url));
    const { taskId } = await tasks.submitTask({ task: { kind: 'nobody-does-this' } });
    const wait = durationFromMs(30_000);
    const late = await failure(tasks.getTask({ taskId, wait }, { timeoutMs: 300 }));
    expect(late.code).toBe(Code.DeadlineExceeded);
    const watching = (async () => {
      for await (const _ of tasks.watchTask({ taskId }, { timeoutMs: 300 })) {
        // until the deadline
      }
    })();
    expect((await failure(watching)).code).toBe(Code.DeadlineExceeded);
    await tasks.cancelTask({ taskId });
  });

  test('a worker answers in the same way', async () => {
    const worker = createClient(WorkerService, transportTo(stack().worker('w1').url));
    const status = await worker.getStatus({});
    expect(status).toMatchObject({ name: 'w1', masterUrl: stack().url });
    expect([WorkerState.IDLE, WorkerState.BUSY]).toContain(status.state);
    const { task } = await worker.executeTask({
      task: { kind: 'echo', payload: { case: 'inputBytes', value: Uint8Array.of(1, 255) } },
    });
    expect(task).toMatchObject({ state: TaskState.SUCCEEDED, worker: 'w1', tags: ['worker:w1'] });
    expect(task!.outputPayload).toMatchObject({ case: 'outputBytes', value: Uint8Array.of(1, 255) });
    const refused = await failure(worker.executeTask({ task: { kind: '' } }));
    expect(refused.code).toBe(Code.InvalidArgument);
  });

  test.for(['master', 'worker'] as const)('health of a %s', async (which) => {
    const url = which === 'master' ? stack().url : stack().worker('w1').url;
    const client = createClient(health.Health, transportTo(url));
    expect((await client.check({})).status).toBe(health.HealthCheckResponse_ServingStatus.SERVING);
    for await (const { status } of client.watch({})) {
      expect(status).toBe(health.HealthCheckResponse_ServingStatus.SERVING);
      break;
    }
  });
});

test.for([
  ['v1', reflectionV1],
  ['v1alpha', reflectionV1alpha],
] as const)('reflection %s is a stream over HTTP/2', async ([, { ServerReflection }]) => {
  const client = createClient(
    ServerReflection as typeof reflectionV1.ServerReflection,
    createGrpcTransport({ baseUrl: stack().url }),
  );
  const ask = async function* () {
    yield { messageRequest: { case: 'listServices' as const, value: '' } };
    yield { messageRequest: { case: 'fileContainingSymbol' as const, value: TaskService.typeName } };
    yield { messageRequest: { case: 'fileContainingSymbol' as const, value: 'no.Such' } };
  };
  const answers = [];
  for await (const { messageResponse } of client.serverReflectionInfo(ask())) answers.push(messageResponse);
  expect(answers.map((answer) => answer.case)).toEqual([
    'listServicesResponse',
    'fileDescriptorResponse',
    'errorResponse',
  ]);
  const [list] = answers;
  const names = list?.case === 'listServicesResponse' ? list.value.service.map(({ name }) => name) : [];
  expect(names).toEqual(
    expect.arrayContaining([
      TaskService.typeName,
      EventService.typeName,
      SystemService.typeName,
      health.Health.typeName,
    ]),
  );
});
