// What any other language does: protos read from proto/, grpc-js as the transport, nothing of Baton's own code.
import { join } from 'node:path';
import { useStack } from '@baton/testkit/vitest';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../../proto');
const load = (file: string, includeDirs: string[]) =>
  grpc.loadPackageDefinition(
    loadSync(file, { keepCase: true, longs: String, enums: String, defaults: false, oneofs: true, includeDirs }),
    // biome-ignore lint/suspicious/noExplicitAny: made at run time
  ) as any;
const own = [root, join(root, 'third_party')];
const task = load('baton/v1/task.proto', own).baton.v1;
const workerProto = load('baton/v1/worker.proto', own).baton.v1;
const details = loadSync('google/rpc/error_details.proto', { includeDirs: own, keepCase: true });
const health = load('grpc/health/v1/health.proto', own).grpc.health.v1;

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });
// biome-ignore lint/suspicious/noExplicitAny: made at run time
type Client = any;
let tasks: Client;
let worker: Client;
const clients: { close(): void }[] = [];
// biome-ignore lint/suspicious/noExplicitAny: made at run time
const connect = (Service: any, url: string): Client => {
  const client = new Service(new URL(url).host, grpc.credentials.createInsecure());
  clients.push(client);
  return client;
};
beforeAll(() => {
  tasks = connect(task.TaskService, stack().url);
  worker = connect(workerProto.WorkerService, stack().worker('w1').url);
});
afterAll(() => {
  for (const client of clients) client.close();
});

// biome-ignore lint/suspicious/noExplicitAny: made at run time
function unary(client: Client, method: string, request: unknown, options: grpc.CallOptions = {}): Promise<any> {
  return new Promise((resolve, reject) => {
    client[method](request, new grpc.Metadata(), options, (error: unknown, answer: unknown) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

async function failure(call: Promise<unknown>): Promise<grpc.ServiceError> {
  const outcome = await call.then(
    () => undefined,
    (error: grpc.ServiceError) => error,
  );
  return outcome ?? expect.fail('the call should have failed');
}

/** The details of google.rpc.Status by type, decoded by hand: what grpc-status-details-bin holds. */
// biome-ignore lint/suspicious/noExplicitAny: made at run time
function decodeDetails(error: grpc.ServiceError): Record<string, any> {
  const [bytes] = error.metadata.get('grpc-status-details-bin') as Buffer[];
  // google.rpc.Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }
  // biome-ignore lint/suspicious/noExplicitAny: made at run time
  const found: Record<string, any> = {};
  for (const any of fieldsOf(bytes!).filter(({ number }) => number === 3)) {
    const parts = fieldsOf(any.bytes);
    const type = parts
      .find(({ number }) => number === 1)!
      .bytes.toString()
      .replace(/^.*\//, '');
    const value = parts.find(({ number }) => number === 2)?.bytes ?? Buffer.alloc(0);
    // biome-ignore lint/suspicious/noExplicitAny: made at run time
    found[type] = (details[type] as any).deserialize?.(value) ?? decodeWith(type, value);
  }
  return found;
}

function decodeWith(type: string, value: Buffer): unknown {
  const strings = fieldsOf(value).map(({ number, bytes }) => [number, bytes.toString()] as const);
  if (type === 'google.rpc.ErrorInfo') return { reason: strings[0]?.[1], domain: strings[1]?.[1] };
  if (type !== 'google.rpc.BadRequest') return strings;
  const field_violations = fieldsOf(value).map(({ bytes }) => ({
    field: fieldsOf(bytes)
      .find(({ number }) => number === 1)
      ?.bytes.toString(),
  }));
  return { field_violations };
}

/** The length-delimited fields of a message. */
function fieldsOf(message: Buffer): { number: number; bytes: Buffer }[] {
  const fields = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    if ((tag & 7) === 0) {
      varint();
      continue;
    }
    expect(tag & 7).toBe(2);
    const length = varint();
    fields.push({ number: tag >> 3, bytes: message.subarray(at, at + length) });
    at += length;
  }
  return fields;
}

// proto-loader brings google.protobuf.Value with it, whose fields are in camel case whatever `keepCase` says.
const value = (number: number) => ({ numberValue: number });

describe('against a master', () => {
  test('submit and get, with a JSON value as a message', async () => {
    const input = { structValue: { fields: { a: value(40), b: value(2) } } };
    const { task_id } = await unary(tasks, 'SubmitTask', { task: { kind: 'sum', input } });
    expect(task_id).toMatch(/^\d{15,19}$/);
    const answer = await unary(tasks, 'GetTask', { task_id, wait: { seconds: 20 } });
    expect(answer.task).toMatchObject({ state: 'TASK_STATE_SUCCEEDED', output: value(42), kind: 'sum' });
    expect(answer.attempts).toMatchObject([{ number: 1, state: 'ATTEMPT_STATE_SUCCEEDED', worker: 'w1' }]);
  });

  test('watch as a server stream: at least ready or leased, then the end, then the stream ends', async () => {
    const { task_id } = await unary(tasks, 'SubmitTask', {
      task: {
        kind: 'fails-times',
        input_json: '{"times":1}',
        retry: { max_attempts: 2, initial_delay: { nanos: 50_000_000 } },
      },
    });
    const states: string[] = [];
    for await (const { task } of tasks.WatchTask({ task_id })) states.push(task.state);
    expect(states.at(-1)).toBe('TASK_STATE_SUCCEEDED');
    expect(states.length).toBeGreaterThan(1);
    expect(new Set(states).size).toBeGreaterThan(1);
  });

  test('errors carry their details', async () => {
    const error = await failure(unary(tasks, 'SubmitTask', { task: { kind: '', priority: 5000 } }));
    expect(error.code).toBe(grpc.status.INVALID_ARGUMENT);
    const found = decodeDetails(error);
    expect(found['google.rpc.ErrorInfo']).toMatchObject({ reason: 'INVALID_REQUEST', domain: 'baton' });
    const fields = found['google.rpc.BadRequest'].field_violations.map(({ field }: { field: string }) => field);
    expect(fields).toEqual(expect.arrayContaining(['task.kind', 'task.priority']));

    const missing = await failure(unary(tasks, 'GetTask', { task_id: '1' }));
    expect(missing.code).toBe(grpc.status.NOT_FOUND);
    expect(decodeDetails(missing)['google.rpc.ErrorInfo']).toMatchObject({ reason: 'TASK_NOT_FOUND' });
  });

  test('a value that is no JSON is refused, in words that can be read', async () => {
    const nan = await failure(unary(tasks, 'SubmitTask', { task: { kind: 'echo', input: value(Number.NaN) } }));
    expect(nan).toMatchObject({
      code: grpc.status.INVALID_ARGUMENT,
      details: expect.stringContaining('task.input: not JSON'),
    });
  });

  test('a deadline ends a wait, and a stream', async () => {
    const { task_id } = await unary(tasks, 'SubmitTask', { task: { kind: 'nobody-does-this' } });
    const before = performance.now();
    const wait = { task_id, wait: { seconds: 30 } };
    const late = await failure(unary(tasks, 'GetTask', wait, { deadline: Date.now() + 300 }));
    expect(late.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    const stream = tasks.WatchTask({ task_id }, new grpc.Metadata(), { deadline: Date.now() + 300 });
    const ended = await new Promise<grpc.ServiceError>((resolve, reject) => {
      stream.on('error', resolve);
      stream.on('end', () => reject(new Error('a stream that was cut ended as if it were complete')));
      stream.resume();
    });
    expect(ended.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    expect(performance.now() - before).toBeLessThan(5_000);
    expect((await unary(tasks, 'CancelTask', { task_id })).state).toBe('TASK_STATE_CANCELLED');
  });

  test('a hundred calls at once on one connection', async () => {
    const numbers = Array.from({ length: 100 }, (_, i) => i);
    const ids = await Promise.all(
      numbers.map((n) => unary(tasks, 'SubmitTask', { task: { kind: 'echo', input: value(n) } })),
    );
    const answers = await Promise.all(
      ids.map(({ task_id }) => unary(tasks, 'GetTask', { task_id, wait: { seconds: 20 } })),
    );
    expect(answers.map(({ task }) => task.output.numberValue)).toEqual(numbers);
  });

  test('a compressed request of 1 MiB', async () => {
    const text = 'é'.repeat(2 ** 19);
    const client = new task.TaskService(new URL(stack().url).host, grpc.credentials.createInsecure(), {
      'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip,
    });
    clients.push(client);
    const { task_id } = await unary(client, 'SubmitTask', { task: { kind: 'echo', input: { stringValue: text } } });
    const { task: done } = await unary(client, 'GetTask', { task_id, wait: { seconds: 20 } });
    expect(done.output.stringValue === text).toBe(true);
  });
});

describe('against a worker', () => {
  test('status and execute', async () => {
    expect(await unary(worker, 'GetStatus', {})).toMatchObject({ name: 'w1', capabilities: { slots: 4 } });
    const { task: done } = await unary(worker, 'ExecuteTask', {
      task: { kind: 'echo', input: { stringValue: 'here' } },
    });
    expect(done).toMatchObject({ state: 'TASK_STATE_SUCCEEDED', worker: 'w1', tags: ['worker:w1'] });
  });

  test('a refusal of the master comes through with its details', async () => {
    const error = await failure(unary(worker, 'ExecuteTask', { task: { kind: '' } }));
    expect(error.code).toBe(grpc.status.INVALID_ARGUMENT);
    expect(decodeDetails(error)['google.rpc.ErrorInfo']).toMatchObject({ domain: 'baton' });
  });
});

test.for(['master', 'worker'] as const)('grpc.health.v1 of a %s', async (which) => {
  const url = which === 'master' ? stack().url : stack().worker('w1').url;
  const service = which === 'master' ? 'baton.v1.TaskService' : 'baton.v1.WorkerService';
  const client = connect(health.Health, url);
  for (const name of ['', service])
    expect(await unary(client, 'Check', { service: name })).toEqual({ status: 'SERVING' });
  expect((await failure(unary(client, 'Check', { service: 'no.Such' }))).code).toBe(grpc.status.NOT_FOUND);
  const watch = client.Watch({ service });
  const [first] = await new Promise<unknown[]>((resolve, reject) => {
    watch.on('data', (...all: unknown[]) => resolve(all));
    watch.on('error', reject);
  });
  expect(first).toEqual({ status: 'SERVING' });
  watch.on('error', () => {});
  watch.cancel();
});
