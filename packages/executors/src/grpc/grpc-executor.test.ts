import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { ContainerExecutor, FailureType, PayloadEncoding, TaskService, TaskState } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import type { AttemptContext, Executor } from '@baton/runtime';
import { serve } from '@baton/server';
import { Code, ConnectError, type ConnectRouter, type ServiceImpl } from '@connectrpc/connect';
import { loadPackageDefinition, Server, ServerCredentials } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf, start } from '../testing/attempt.ts';
import { grpcExecutor } from './grpc-executor.ts';

const execute = 'ContainerExecutor/Execute';

function open(): Executor {
  const executor = grpcExecutor();
  onTestFinished(() => void executor.close?.());
  return executor;
}

interface Handlers {
  readonly container?: Partial<ServiceImpl<typeof ContainerExecutor>>;
  readonly tasks?: Partial<ServiceImpl<typeof TaskService>>;
  /** Asked before each call, by the name of its service. */
  readonly before?: (service: string) => void;
}

async function serveAt({ container = {}, tasks = {}, before }: Handlers, port = 0): Promise<string> {
  const server = await serve({
    port,
    services: [ContainerExecutor, TaskService],
    routes: (router: ConnectRouter) => {
      router.service(ContainerExecutor, container);
      router.service(TaskService, tasks);
    },
    interceptors: [
      (next) => (request) => {
        before?.(request.service.typeName);
        return next(request);
      },
    ],
  });
  onTestFinished(() => server.close({ graceMs: 0 }));
  return `127.0.0.1:${server.port}`;
}

function call(
  executor: Executor,
  address: string,
  method: string,
  input?: unknown,
  more: { metadata?: Record<string, string>; context?: Partial<AttemptContext> } = {},
) {
  const value = { address, method, metadata: more.metadata ?? {} };
  return start(executor, { executor: { case: 'grpc', value } }, input, more.context);
}

test('ContainerExecutor.Execute is called with the input as JSON and the metadata as headers', async () => {
  const seen: unknown[] = [];
  const address = await serveAt({
    container: {
      execute: ({ inputFile, outputFile }, { requestHeader }) => {
        seen.push(inputFile, outputFile, requestHeader.get('x-run'));
        return { success: true, message: 'written' };
      },
    },
  });
  const { outcome } = call(
    open(),
    address,
    execute,
    { input_file: 'a.csv', output_file: 'b.csv' },
    { metadata: { 'x-run': '7' } },
  );
  expect(outputOf(await outcome)).toEqual({ success: true, message: 'written' });
  expect(seen).toEqual(['a.csv', 'b.csv', '7']);
});

test('a service in another gRPC library is spoken to byte for byte', async () => {
  const proto = fileURLToPath(new URL('../../../../proto/third_party/container_executor.proto', import.meta.url));
  const definition = loadPackageDefinition(loadSync(proto)) as never as { ContainerExecutor: { service: never } };
  const server = new Server();
  server.addService(definition.ContainerExecutor.service, {
    execute: (c: { request: { inputFile: string } }, answer: (error: null, value: unknown) => void) =>
      answer(null, { success: true, message: `read ${c.request.inputFile}` }),
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  onTestFinished(() => server.forceShutdown());
  const { outcome } = call(open(), `127.0.0.1:${port}`, execute, { inputFile: 'a.csv', outputFile: 'b' });
  expect(outputOf(await outcome)).toEqual({ success: true, message: 'read a.csv' });
});

test('success: false is a failure of the step with its message, and may be tried again', async () => {
  const address = await serveAt({ container: { execute: () => ({ success: false, message: 'no such column' }) } });
  expect(await call(open(), address, execute, {}).outcome).toMatchObject({
    kind: 'failure',
    failure: { type: FailureType.EVALUATION_ERROR, message: 'no such column' },
  });
});

for (const version of ['v1', 'v1alpha']) {
  test(`any unary method is found by reflection ${version}, with JSON in and out`, async () => {
    const asked: string[] = [];
    const address = await serveAt({
      tasks: {
        getTask: ({ taskId, wait }) => ({
          task: {
            id: taskId,
            state: TaskState.SUCCEEDED,
            createTime: { seconds: 0n, nanos: Number(wait!.seconds) },
            outputPayload: { case: 'output', value: { kind: { case: 'stringValue', value: 'x' } } },
          },
        }),
      },
      before: (service) => {
        asked.push(service);
        if (version === 'v1alpha' && service === 'grpc.reflection.v1.ServerReflection') {
          throw new ConnectError('not here', Code.Unimplemented);
        }
      },
    });
    const { outcome } = call(open(), address, 'baton.v1.TaskService/GetTask', { task_id: '5', wait: '3s' });
    expect(outputOf(await outcome)).toMatchObject({
      task: {
        id: '5',
        state: 'TASK_STATE_SUCCEEDED',
        createTime: '1970-01-01T00:00:00.000000003Z',
        output: 'x',
        queue: '',
      },
      attempts: [],
    });
    expect(asked).toContain(`grpc.reflection.${version}.ServerReflection`);
  });
}

test('what reflection told is kept, and read again when the server says UNIMPLEMENTED', async () => {
  const counts: Record<string, number> = {};
  let gone = false;
  const address = await serveAt({
    tasks: {
      getTask: () => {
        if (gone) {
          gone = false;
          throw new ConnectError('moved', Code.Unimplemented);
        }
        return {};
      },
    },
    before: (service) => {
      counts[service] = (counts[service] ?? 0) + 1;
    },
  });
  const executor = open();
  const reflection = 'grpc.reflection.v1.ServerReflection';
  for (let i = 0; i < 3; i++) {
    expect((await call(executor, address, 'baton.v1.TaskService/GetTask').outcome).kind).toBe('success');
  }
  expect(counts[reflection]).toBe(1);
  gone = true;
  expect((await call(executor, address, 'baton.v1.TaskService/GetTask').outcome).kind).toBe('success');
  expect(counts[reflection]).toBe(2);
});

test('an input that does not fit fails without retry and names the field', async () => {
  const address = await serveAt({});
  const executor = open();
  for (const [method, input, field] of [
    [execute, { input_file: 7 }, 'input_file'],
    [execute, { input_fiel: 'a' }, 'input_fiel'],
    ['baton.v1.TaskService/GetTask', { wait: 'soon' }, 'wait'],
    ['baton.v1.TaskService/SubmitTasks', { tasks: [{}, { retry: { maxDelay: 5 } }] }, 'tasks.1.retry.maxDelay'],
    [execute, [], 'ExecuteRequest'],
  ] as const) {
    expect(await call(executor, address, method, input).outcome).toMatchObject({
      failure: {
        type: FailureType.EVALUATION_ERROR,
        nonRetryable: true,
        message: expect.stringMatching(new RegExp(`invalid input for .*${field}`)),
      },
    });
  }
  const value = { address, method: execute };
  const bytes = start(executor, {
    executor: { case: 'grpc', value },
    encoding: PayloadEncoding.BYTES,
    input: new Uint8Array([1]),
  });
  expect(await bytes.outcome).toMatchObject({ failure: { nonRetryable: true } });
});

test('services, methods and kinds of calls that are not there fail without retry, in words', async () => {
  const address = await serveAt({});
  const executor = open();
  for (const [method, words] of [
    ['baton.v1.Nothing/Do', 'baton.v1.Nothing is not known'],
    ['baton.v1.TaskService/Do', 'baton.v1.TaskService at .* has no method Do'],
    ['baton.v1.TaskService/WatchTask', 'is a stream'],
    ['ContainerExecutor/Other', 'has no method Other'],
  ] as const) {
    expect(await call(executor, address, method, {}).outcome).toMatchObject({
      failure: { type: FailureType.EVALUATION_ERROR, nonRetryable: true, message: expect.stringMatching(words) },
    });
  }
});

test('a server without reflection is named as such', async () => {
  const address = await serveAt({
    before: (service) => {
      if (service.startsWith('grpc.reflection.')) {
        throw new ConnectError('not here', Code.Unimplemented);
      }
    },
  });
  expect(await call(open(), address, 'some.Service/Do', {}).outcome).toMatchObject({
    failure: { nonRetryable: true, message: expect.stringContaining('serves no reflection') },
  });
});

test('the codes of a service become failures, without retry where that never helps', async () => {
  let code = Code.Unknown;
  const address = await serveAt({
    container: {
      execute: () => {
        throw new ConnectError('because', code, undefined, [
          { desc: errorDetails.RetryInfoSchema, value: { retryDelay: { seconds: 2n } } },
        ]);
      },
    },
  });
  const executor = open();
  for (const [given, type, nonRetryable] of [
    [Code.InvalidArgument, FailureType.EVALUATION_ERROR, true],
    [Code.Unimplemented, FailureType.EVALUATION_ERROR, true],
    [Code.NotFound, FailureType.EVALUATION_ERROR, false],
    [Code.Internal, FailureType.EVALUATION_ERROR, false],
    [Code.ResourceExhausted, FailureType.EVALUATION_ERROR, false],
    [Code.Unavailable, FailureType.NETWORK_ERROR, undefined],
    [Code.DeadlineExceeded, FailureType.TASK_TIMEOUT, undefined],
  ] as const) {
    code = given;
    const outcome = await call(executor, address, execute, {}).outcome;
    expect(outcome).toMatchObject({ kind: 'failure', failure: { type } });
    expect(outcome.kind === 'failure' && outcome.failure.nonRetryable).toBe(nonRetryable);
    if (type === FailureType.EVALUATION_ERROR) {
      expect(outcome).toMatchObject({ failure: { message: expect.stringContaining('because'), retryAfterMs: 2_000 } });
    }
  }
});

test('a service that is not there is a NETWORK_ERROR at once, with address and service, and is found when it comes', async () => {
  const reserved = createServer().listen(0, '127.0.0.1');
  await once(reserved, 'listening');
  const { port } = reserved.address() as { port: number };
  reserved.close();
  await once(reserved, 'close');
  const executor = open();
  const before = performance.now();
  const address = `127.0.0.1:${port}`;
  expect(await call(executor, address, execute, {}).outcome).toMatchObject({
    failure: {
      type: FailureType.NETWORK_ERROR,
      message: `cannot reach ContainerExecutor at ${address}: connection refused`,
    },
  });
  expect(performance.now() - before).toBeLessThan(1_000);
  await serveAt({ container: { execute: () => ({ success: true, message: 'here' }) } }, port);
  expect(outputOf(await call(executor, address, execute, {}).outcome)).toMatchObject({ message: 'here' });
});

test('a service whose process dies with the call in flight is a NETWORK_ERROR', async () => {
  const service = fork(fileURLToPath(new URL('../testing/dying-service.ts', import.meta.url)), { execArgv: [] });
  onTestFinished(() => void service.kill('SIGKILL'));
  const [{ port }] = (await once(service, 'message')) as [{ port: number }];
  const { outcome } = call(open(), `127.0.0.1:${port}`, execute, {});
  await once(service, 'message');
  service.kill('SIGKILL');
  expect(await outcome).toMatchObject({ failure: { type: FailureType.NETWORK_ERROR } });
});

test('an address that none has is refused without a connection', async () => {
  for (const address of ['nowhere', 'http://127.0.0.1:1', '127.0.0.1:99999', '', 'a b:1', '127.0.0.1:1/path']) {
    expect(await call(open(), address, execute, {}).outcome).toMatchObject({
      failure: { type: FailureType.EVALUATION_ERROR, nonRetryable: true, message: expect.stringContaining('address') },
    });
  }
});

test('cancelling the attempt cancels the call on the service', async () => {
  const arrived = Promise.withResolvers<AbortSignal>();
  const address = await serveAt({
    container: {
      execute: async (_, { signal }) => {
        arrived.resolve(signal);
        await once(signal, 'abort');
        return {};
      },
    },
  });
  const { outcome, abort } = call(open(), address, execute, {});
  const signal = await arrived.promise;
  abort.abort(new Error('cancelled'));
  expect((await outcome).kind).toBe('cancelled');
  if (!signal.aborted) {
    await once(signal, 'abort');
  }
});

test('the start-to-close time travels to the service as the deadline of the call', async () => {
  const left = Promise.withResolvers<number | undefined>();
  const address = await serveAt({
    container: {
      execute: async (_, { timeoutMs, signal }) => {
        left.resolve(timeoutMs());
        await once(signal, 'abort');
        return {};
      },
    },
  });
  const { outcome } = call(open(), address, execute, {}, { context: { startToCloseMs: 300 } });
  expect(await left.promise).toBeLessThanOrEqual(300);
  expect(await outcome).toMatchObject({ failure: { type: FailureType.TASK_TIMEOUT } });
});
