import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { constants, gunzipSync, gzipSync } from 'node:zlib';
import { createBaton, TaskFailed } from '@baton/client';
import { GetTaskRequestSchema, SubmitTaskRequestSchema, TaskService, WatchTaskRequestSchema } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { startStack } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { detail, post } from './curl.ts';

const stack = useStack({ tasksModule: new URL('./stream-tasks.ts', import.meta.url) });

const SUBMIT = '/baton.v1.TaskService/SubmitTask';
const GET = '/baton.v1.TaskService/GetTask';
const WATCH = '/baton.v1.TaskService/WatchTask';

interface Answer {
  readonly status: number;
  /** gRPC's or Connect's code as a number; 0: fine. */
  readonly code: number;
  readonly message: string;
  /** Of ErrorInfo; undefined: there is none. */
  readonly reason: string | undefined;
  readonly encoding: string | null;
  /** Of the first message, or the unary body. */
  readonly body: Uint8Array;
  /** The first frame says that it is compressed. */
  readonly isCompressed: boolean;
}

/** One way to make a call by hand: everything about it can be wrong. */
interface Way {
  readonly name: string;
  /** Sends bytes as the body of a call, for unary methods or streaming ones. */
  call(path: string, body: Uint8Array, headers?: Record<string, string>): Promise<Answer>;
  /** Bytes of a message as a body. */
  wrap(message: Uint8Array, isCompressed?: boolean): Uint8Array;
  readonly saysCompressed: Record<string, string>;
  readonly asksCompressed: Record<string, string>;
  readonly isFramed: boolean;
}

function frame(flags: number, data: Uint8Array, length = data.length): Uint8Array {
  const out = new Uint8Array(5 + data.length);
  out[0] = flags;
  new DataView(out.buffer).setUint32(1, length);
  out.set(data, 5);
  return out;
}

function framesOf(bytes: Uint8Array): { flags: number; data: Uint8Array }[] {
  const frames = [];
  for (let at = 0; at + 5 <= bytes.length; ) {
    const length = new DataView(bytes.buffer, bytes.byteOffset + at + 1).getUint32(0);
    frames.push({ flags: bytes[at]!, data: bytes.subarray(at + 5, at + 5 + length) });
    at += 5 + length;
  }
  return frames;
}

/** Of an error as Connect writes it. */
function reasonOf(error?: { details?: { type: string; debug?: { reason: string } }[] }): string | undefined {
  return error?.details?.find(({ type }) => type === 'google.rpc.ErrorInfo')?.debug?.reason;
}

/** Of google.rpc.Status, as gRPC writes it: an ErrorInfo of a reason and the domain baton lies in its bytes. */
function reasonIn(status: string | undefined): string | undefined {
  const text = Buffer.from(status ?? '', 'base64').toString('latin1');
  return /google\.rpc\.ErrorInfo\x12.\n.([A-Z_]+)\x12\x05baton/s.exec(text)?.[1];
}

const codeNames = Object.fromEntries(
  Object.entries(Code)
    .filter(([name]) => Number.isNaN(Number(name)))
    .map(([name, value]) => [name.replaceAll(/(?<=.)[A-Z]/g, (c) => `_${c}`).toLowerCase(), Number(value)]),
);

async function overFetch(path: string, type: string, body: Uint8Array, headers: Record<string, string>) {
  const response = await fetch(`${stack().url}${path}`, {
    method: 'POST',
    headers: { 'content-type': type, 'accept-encoding': 'identity', ...headers },
    body: body as Uint8Array<ArrayBuffer>,
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { response, bytes };
}

const connectUnary = (type: 'proto' | 'json'): Way => ({
  name: `Connect unary, ${type}`,
  isFramed: false,
  wrap: (message) => message,
  saysCompressed: { 'content-encoding': 'gzip' },
  asksCompressed: { 'accept-encoding': 'gzip' },
  async call(path, body, headers = {}) {
    const { response, bytes } = await overFetch(path, `application/${type}`, body, headers);
    const error = response.ok ? undefined : JSON.parse(new TextDecoder().decode(bytes));
    const encoding = response.headers.get('content-encoding');
    return {
      status: response.status,
      code: error ? (codeNames[error.code] ?? -1) : 0,
      message: error?.message ?? '',
      reason: reasonOf(error),
      encoding,
      // fetch has decompressed it.
      body: bytes,
      isCompressed: encoding === 'gzip',
    };
  },
});

const connectStream: Way = {
  name: 'Connect stream',
  isFramed: true,
  wrap: (message, isCompressed = false) => frame(isCompressed ? 1 : 0, message),
  saysCompressed: { 'connect-content-encoding': 'gzip' },
  asksCompressed: { 'connect-accept-encoding': 'gzip' },
  async call(path, body, headers = {}) {
    const { response, bytes } = await overFetch(path, 'application/connect+proto', body, headers);
    const frames = framesOf(bytes);
    const end = frames.find(({ flags }) => flags & 2);
    const first = frames.find(({ flags }) => !(flags & 2));
    const { error } = JSON.parse(new TextDecoder().decode(end!.flags & 1 ? gunzipSync(end!.data) : end!.data));
    return {
      status: response.status,
      code: error ? (codeNames[error.code] ?? -1) : 0,
      message: error?.message ?? '',
      reason: reasonOf(error),
      encoding: response.headers.get('connect-content-encoding'),
      body: first ? (first.flags & 1 ? gunzipSync(first.data) : first.data) : new Uint8Array(),
      isCompressed: ((first?.flags ?? 0) & 1) === 1,
    };
  },
};

const grpcWeb: Way = {
  name: 'gRPC-Web',
  isFramed: true,
  wrap: (message, isCompressed = false) => frame(isCompressed ? 1 : 0, message),
  saysCompressed: { 'grpc-encoding': 'gzip' },
  asksCompressed: { 'grpc-accept-encoding': 'gzip' },
  async call(path, body, headers = {}) {
    const { response, bytes } = await overFetch(path, 'application/grpc-web+proto', body, headers);
    const frames = framesOf(bytes);
    const trailers = frames.find(({ flags }) => flags & 0x80);
    const first = frames.find(({ flags }) => !(flags & 0x80));
    const text = new TextDecoder().decode(trailers!.flags & 1 ? gunzipSync(trailers!.data) : trailers!.data);
    return {
      status: response.status,
      code: Number(/grpc-status: *(\d+)/i.exec(text)?.[1] ?? -1),
      message: decodeURIComponent(/grpc-message: *(.*)\r/i.exec(text)?.[1] ?? ''),
      reason: reasonIn(/grpc-status-details-bin: *(.*)\r/i.exec(text)?.[1]),
      encoding: response.headers.get('grpc-encoding'),
      body: first ? (first.flags & 1 ? gunzipSync(first.data) : first.data) : new Uint8Array(),
      isCompressed: ((first?.flags ?? 0) & 1) === 1,
    };
  },
};

const grpc: Way = {
  name: 'gRPC',
  isFramed: true,
  wrap: (message, isCompressed = false) => frame(isCompressed ? 1 : 0, message),
  saysCompressed: { 'grpc-encoding': 'gzip' },
  asksCompressed: { 'grpc-accept-encoding': 'gzip' },
  call(path, body, headers = {}) {
    return new Promise((resolve, reject) => {
      const session = http2.connect(stack().url);
      session.on('error', reject);
      const stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...headers,
      });
      let head: http2.IncomingHttpHeaders = {};
      let tail: http2.IncomingHttpHeaders = {};
      const chunks: Buffer[] = [];
      stream.on('response', (given) => {
        head = given;
      });
      stream.on('trailers', (given) => {
        tail = given;
      });
      stream.on('data', (chunk) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('close', () => {
        session.destroy();
        const [first] = framesOf(Buffer.concat(chunks));
        resolve({
          status: Number(head[':status']),
          code: Number(tail['grpc-status'] ?? head['grpc-status'] ?? -1),
          message: decodeURIComponent(String(tail['grpc-message'] ?? head['grpc-message'] ?? '')),
          reason: reasonIn(String(tail['grpc-status-details-bin'] ?? head['grpc-status-details-bin'] ?? '')),
          encoding: (head['grpc-encoding'] as string) ?? null,
          body: first ? (first.flags & 1 ? gunzipSync(first.data) : first.data) : new Uint8Array(),
          isCompressed: ((first?.flags ?? 0) & 1) === 1,
        });
      });
      stream.end(body);
    });
  },
};

const unaryWays = [connectUnary('proto'), connectUnary('json'), grpcWeb, grpc];
/** With the streaming method that each can be tried with. */
const streamWays = [connectStream, grpcWeb, grpc];

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const encoded = (way: Way, binary: Uint8Array, asJson: unknown) => (way.name.includes('json') ? json(asJson) : binary);

/** 1 MiB that becomes 1 GiB: a gzip of many members. */
function bomb(): Uint8Array {
  const member = gzipSync(Buffer.alloc(2 ** 20), { level: constants.Z_BEST_COMPRESSION });
  return Buffer.concat(Array.from({ length: 1_024 }, () => member));
}

/** The most that a process has had in memory so far, MB. */
function peakMb(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

test.each(unaryWays)('messages from 1 KiB on travel compressed both ways: $name', async (way) => {
  const text = JSON.stringify('words '.repeat(2_000));
  const spec = { task: { kind: 'echo', payload: { case: 'inputJson' as const, value: text } } };
  const plain = encoded(way, toBinary(SubmitTaskRequestSchema, create(SubmitTaskRequestSchema, spec)), {
    task: { kind: 'echo', inputJson: text },
  });
  const submitted = await way.call(SUBMIT, way.wrap(gzipSync(plain), true), way.saysCompressed);
  expect(submitted).toMatchObject({ code: 0, isCompressed: false });
  const { id } = (await createBaton({ url: stack().url }).tasks.list({ kind: 'echo', limit: 1 }).all())[0]!;
  await createBaton({ url: stack().url }).tasks.handle(id).result();
  const request = { taskId: id, format: 2 };
  const get = way.wrap(
    encoded(way, toBinary(GetTaskRequestSchema, create(GetTaskRequestSchema, request)), {
      taskId: id,
      format: 'PAYLOAD_FORMAT_TEXT',
    }),
  );
  const answer = await way.call(GET, get, way.asksCompressed);
  expect(answer).toMatchObject({ code: 0, isCompressed: true, encoding: 'gzip' });
  expect(new TextDecoder().decode(answer.body)).toContain('words words');
  expect(await way.call(GET, get)).toMatchObject({ code: 0, isCompressed: false });
});

test.each(streamWays)('messages of streams, too: $name', async (way) => {
  const task = await createBaton({ url: stack().url }).submit({ kind: 'echo', input: 'words '.repeat(2_000) });
  await task.result();
  const request = toBinary(WatchTaskRequestSchema, create(WatchTaskRequestSchema, { taskId: task.id, format: 2 }));
  const answer = await way.call(WATCH, way.wrap(gzipSync(request), true), {
    ...way.saysCompressed,
    ...way.asksCompressed,
  });
  expect(answer).toMatchObject({ code: 0, isCompressed: true, encoding: 'gzip' });
  expect(new TextDecoder().decode(answer.body)).toContain('words words');
});

test('1 MiB that would become 1 GiB is refused everywhere, and never becomes it', { timeout: 120_000 }, async () => {
  const bytes = bomb();
  expect(bytes.length).toBeLessThan(1.2 * 2 ** 20);
  const { pid } = stack().master;
  const before = peakMb(pid);
  for (const way of unaryWays) {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => way.call(SUBMIT, way.wrap(bytes, true), way.saysCompressed)),
    );
    for (const answer of answers)
      expect(answer, way.name).toMatchObject({ code: Code.ResourceExhausted, reason: 'MESSAGE_TOO_LARGE' });
  }
  for (const way of streamWays)
    expect(await way.call(WATCH, way.wrap(bytes, true), way.saysCompressed), way.name).toMatchObject({
      code: Code.ResourceExhausted,
      reason: 'MESSAGE_TOO_LARGE',
    });
  expect(peakMb(pid) - before).toBeLessThan(200);
});

test.each([...unaryWays, connectStream])(
  "what is no message, or cut short, is its sender's fault: $name",
  async (way) => {
    const path = way === connectStream ? WATCH : SUBMIT;
    const whole = encoded(
      way,
      toBinary(SubmitTaskRequestSchema, create(SubmitTaskRequestSchema, { task: { kind: 'echo', queue: 'q' } })),
      { task: { kind: 'echo' } },
    );
    for (const bad of [whole.subarray(0, whole.length - 1), Uint8Array.of(10, 200), Uint8Array.of(0xff, 0xff, 0xff)]) {
      const answer = await way.call(path, way.wrap(bad));
      expect(answer, `${bad}`).toMatchObject({ code: Code.InvalidArgument, reason: 'MALFORMED_REQUEST' });
      expect(answer.message).not.toBe('');
    }
    // Compressed, it says; it is not.
    expect(await way.call(path, way.wrap(whole, true), way.saysCompressed)).toMatchObject({
      code: Code.InvalidArgument,
      reason: 'MALFORMED_REQUEST',
    });
    const lzma = Object.fromEntries(Object.keys(way.saysCompressed).map((name) => [name, 'lzma']));
    expect(await way.call(path, way.wrap(whole, true), lzma)).toMatchObject({
      code: Code.Unimplemented,
      reason: 'UNKNOWN_COMPRESSION',
    });
    // A time that is none.
    const times = { 'connect-timeout-ms': 'soon', 'grpc-timeout': 'soon' };
    expect(await way.call(path, way.wrap(whole), times)).toMatchObject({
      code: Code.InvalidArgument,
      reason: 'MALFORMED_REQUEST',
    });
  },
);

test.each(streamWays)('JSON in frames that cannot be decoded, with every problem: $name', async (way) => {
  const type = { 'content-type': way === connectStream ? 'application/connect+json' : '' };
  if (way !== connectStream)
    type['content-type'] = way === grpc ? 'application/grpc+json' : 'application/grpc-web+json';
  const answer = await way.call(WATCH, way.wrap(json({ taskId: 'x', frmat: 1, cursor: 2 })), type);
  expect(answer).toMatchObject({ code: Code.InvalidArgument, reason: 'INVALID_REQUEST' });
  for (const word of ['task_id', 'frmat', 'cursor']) expect(answer.message).toContain(word);
});

test.each(streamWays)('a time that ran out has its reason, too: $name', async (way) => {
  const task = await createBaton({ url: stack().url }).submit({ kind: 'nobody-can', input: 1 });
  const message = toBinary(WatchTaskRequestSchema, create(WatchTaskRequestSchema, { taskId: task.id }));
  const late = await way.call(WATCH, way.wrap(message), { 'connect-timeout-ms': '200', 'grpc-timeout': '200m' });
  expect(late).toMatchObject({ code: Code.DeadlineExceeded, reason: 'DEADLINE_EXCEEDED' });
  await task.cancel();
});

test.each(streamWays)('frames that lie about their length: $name', async (way) => {
  const path = way === connectStream ? WATCH : SUBMIT;
  const message = toBinary(SubmitTaskRequestSchema, create(SubmitTaskRequestSchema, { task: { kind: 'echo' } }));
  const before = peakMb(stack().master.pid);
  // Longer than what comes; as long as can be said; shorter.
  const malformed = { code: Code.InvalidArgument, reason: 'MALFORMED_REQUEST' };
  expect(await way.call(path, frame(0, message, message.length + 100))).toMatchObject(malformed);
  expect(await way.call(path, frame(0, message, 0xffff_ffff))).toMatchObject({
    code: Code.ResourceExhausted,
    reason: 'MESSAGE_TOO_LARGE',
  });
  expect(await way.call(path, frame(0, message, message.length - 1))).toMatchObject(malformed);
  expect(await way.call(path, Uint8Array.of(0, 0))).toMatchObject(malformed);
  expect(peakMb(stack().master.pid) - before).toBeLessThan(100);
  // The server is none the worse.
  expect((await way.call(SUBMIT === path ? SUBMIT : WATCH, way.wrap(message))).code).not.toBe(Code.Internal);
});

test.each([40, 200, 1_000, 1_001, 3_000, 10_000, 100_000])(
  'JSON %i deep is refused with words, or taken and given back',
  async (depth) => {
    const deep = `${'['.repeat(depth)}${']'.repeat(depth)}`;
    const asValue = await post(stack().url, 'TaskService/SubmitTask', `{"task":{"kind":"nobody-can","input":${deep}}}`);
    const asText = await post(stack().url, 'TaskService/SubmitTask', { task: { kind: 'nobody-can', inputJson: deep } });
    for (const [answer, most] of [
      [asValue, 45],
      [asText, 100_000],
    ] as const) {
      if (depth > most) {
        expect([answer.status, answer.body.code]).toEqual([400, 'invalid_argument']);
        expect(answer.body.message).toMatch(/deep|depth/);
        continue;
      }
      expect(answer.status, JSON.stringify(answer.body)).toBe(200);
      // Whoever reads it can: as a value where a message may be so deep, else as text.
      const { taskId } = answer.body;
      for (const format of ['PAYLOAD_FORMAT_UNSPECIFIED', 'PAYLOAD_FORMAT_TEXT'])
        expect((await post(stack().url, 'TaskService/GetTask', { taskId, format })).status).toBe(200);
      for (const transport of [
        createGrpcTransport({ baseUrl: stack().url }),
        createConnectTransport({ baseUrl: stack().url, httpVersion: '1.1' }),
      ]) {
        const { task } = await createClient(TaskService, transport).getTask({ taskId, format: 0 });
        expect(task?.inputPayload.case).toMatch(/input/);
      }
      expect((await createBaton({ url: stack().url }).tasks.get(taskId)).input).toBeInstanceOf(Array);
    }
  },
);

test('an input above 2 MiB is refused with its reason, one of 2 MiB is taken, on every protocol', async () => {
  const limit = 2 * 1024 * 1024;
  for (const transport of [
    createGrpcTransport({ baseUrl: stack().url }),
    createGrpcWebTransport({ baseUrl: stack().url, httpVersion: '1.1' }),
    createConnectTransport({ baseUrl: stack().url, httpVersion: '1.1' }),
    createConnectTransport({ baseUrl: stack().url, httpVersion: '1.1', useBinaryFormat: false }),
  ]) {
    const client = createClient(TaskService, transport);
    const submit = (bytes: number) =>
      client.submitTask({
        task: { kind: 'nobody-can', payload: { case: 'inputBytes', value: new Uint8Array(bytes) } },
      });
    expect((await submit(limit)).taskId).toMatch(/\d+/);
    const error = await submit(limit + 1).catch(ConnectError.from);
    expect(error).toMatchObject({ code: Code.ResourceExhausted });
    expect((error as ConnectError).findDetails(errorDetails.ErrorInfoSchema)[0]?.reason).toBe('INPUT_TOO_LARGE');
    // Larger than any message.
    expect(await submit(8 * 1024 * 1024).catch(ConnectError.from)).toMatchObject({ code: Code.ResourceExhausted });
  }
  const answer = await post(stack().url, 'TaskService/SubmitTask', {
    task: { kind: 'k', inputJson: JSON.stringify('x'.repeat(limit)) },
  });
  expect([answer.body.code, detail(answer, 'ErrorInfo').reason]).toEqual(['resource_exhausted', 'INPUT_TOO_LARGE']);
});

test('a result above 2 MiB fails its task without a retry, saying so', async () => {
  const task = await createBaton({ url: stack().url }).submit({ kind: 'big', input: { bytes: 2 * 1024 * 1024 } });
  const failed = await task.result().catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(TaskFailed);
  const { attempts, failure } = await task.status();
  expect(attempts).toHaveLength(1);
  expect(failure).toMatchObject({ nonRetryable: true, message: expect.stringMatching(/2097154 bytes/) });
});

test('a client and a worker that compress everything work as those that compress nothing', async () => {
  await using compressing = await startStack({
    tasksModule: new URL('./stream-tasks.ts', import.meta.url),
    env: { BATON_COMPRESSION: 'gzip' },
  });
  const baton = createBaton({ url: compressing.url, compression: 'gzip' });
  const input = Array.from({ length: 20_000 }, (_, i) => `word ${i}`);
  const task = await baton.submit({ kind: 'echo', input });
  expect(await task.result()).toEqual(input);
  const poured = await baton.submit({ kind: 'pours', input: { bytes: 500_000, block: 10_000 } });
  let bytes = 0;
  for await (const { data } of poured.output()) bytes += data.length;
  expect(bytes).toBe(500_000);
  // A master that is told to answers nobody compressed.
  await using plain = await startStack({ workers: 0, env: { BATON_COMPRESSION: 'none' } });
  const answer = await fetch(`${plain.url}/baton.v1.TaskService/ListTasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'accept-encoding': 'gzip' },
    body: '{}',
  });
  expect([answer.status, answer.headers.get('content-encoding')]).toEqual([200, null]);
});
