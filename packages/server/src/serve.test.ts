import { gzipSync } from 'node:zlib';
import { ContainerExecutor } from '@baton/contract';
import { health } from '@baton/contract/grpc';
import { create, type DescFile, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from '@connectrpc/connect-node';
import * as grpc from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { BindError, PortTakenError, type RunningServer, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

type HealthPackage = { grpc: { health: { v1: { Health: grpc.ServiceClientConstructor } } } };
const maxMessageBytes = 4 * 1024 * 1024;
/** What an error says to programs, as Connect shows it. */
const because = (reason: string) => ({ type: 'google.rpc.ErrorInfo', debug: { reason, domain: 'baton' } });
const defects: [unknown, string][] = [];
let server: RunningServer;

beforeAll(async () => {
  const app = new Hono();
  app.get('/hello', (c) => c.text('hello'));
  app.get('/breaks', () => {
    throw new TypeError('a defect');
  });
  // Hono would answer it itself, and print it.
  app.onError((error) => {
    throw error;
  });
  app.post('/upload', async (c) => c.json({ bytes: (await c.req.arrayBuffer()).byteLength }));
  app.get('/events', (c) =>
    streamSSE(c, async (stream) => {
      for (let n = 0; n < 3; n++) {
        await stream.writeSSE({ data: String(n), id: String(n) });
      }
    }),
  );
  server = await serve({
    port: 0,
    services: [ContainerExecutor, ProbeService],
    maxMessageBytes,
    fetch: app.fetch,
    onError: (error, where) => defects.push([error, where]),
    routes(router) {
      router.service(ContainerExecutor, {
        execute: ({ inputFile, outputFile }) => ({ success: true, message: `${inputFile} to ${outputFile}` }),
      });
      router.service(ProbeService, {
        echo: (request) => request,
        hold(request) {
          throw request.text === 'refused'
            ? new ConnectError('not today', Code.FailedPrecondition)
            : new Error('secret');
        },
        async *count(request) {
          for (let n = 0; n < Number(request.text); n++) {
            yield { text: String(n) };
          }
        },
        async *chat(requests) {
          for await (const { text } of requests) {
            yield { text: text.toUpperCase() };
          }
        },
      });
    },
  });
});
afterAll(() => server.close({ graceMs: 1_000 }));

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(server.url + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

describe('JSON over HTTP/1.1', () => {
  it('takes both spellings of a field and answers in lowerCamelCase', async () => {
    for (const body of [
      { inputFile: 'a', outputFile: 'b' },
      { input_file: 'a', output_file: 'b' },
    ]) {
      const response = await post('/ContainerExecutor/Execute', body);
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual({ success: true, message: 'a to b' });
    }
  });

  it('refuses an unknown field by its name', async () => {
    const response = await post('/ContainerExecutor/Execute', { inputFlie: 'a' });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('"inputFlie"'),
    });
  });

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', 'text/plain; application/json'])(
    'refuses %s, which a form of a foreign page can send',
    async (type) => {
      const response = await post('/ContainerExecutor/Execute', {}, { 'Content-Type': type });
      expect(response.status).toBe(415);
      expect(await response.json()).toMatchObject({
        message: expect.stringContaining('application/json'),
        details: [expect.objectContaining(because('WRONG_CONTENT_TYPE'))],
      });
    },
  );

  it('answers GET where the method has no side effects, and only there', async () => {
    const message = encodeURIComponent(JSON.stringify({ text: 'via get' }));
    const query = `?connect=v1&encoding=json&message=${message}`;
    const response = await fetch(`${server.url}/probe.v1.ProbeService/Echo${query}`);
    expect(await response.json()).toEqual({ text: 'via get' });
    const refused = await fetch(`${server.url}/probe.v1.ProbeService/Hold${query}`);
    expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'POST']);
    expect(await refused.json()).toMatchObject({
      code: 'unimplemented',
      details: [expect.objectContaining(because('WRONG_HTTP_METHOD'))],
    });
  });

  it('counts the size of a message after decompression', async () => {
    const small = await fetch(`${server.url}/probe.v1.ProbeService/Echo`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' },
      body: gzipSync(JSON.stringify({ text: 'small' })),
    });
    expect(await small.json()).toEqual({ text: 'small' });
    const bomb = await fetch(`${server.url}/probe.v1.ProbeService/Echo`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' },
      body: gzipSync(JSON.stringify({ text: 'x'.repeat(maxMessageBytes + 1) })),
    });
    expect(bomb.status).toBe(429);
    expect(await bomb.json()).toMatchObject({ code: 'resource_exhausted' });
  });

  it('compresses answers from 1 KiB up for those who accept it', async () => {
    const small = await post('/probe.v1.ProbeService/Echo', { text: 'x' }, { 'Accept-Encoding': 'gzip' });
    expect(small.headers.get('content-encoding')).toBeNull();
    const large = await post('/probe.v1.ProbeService/Echo', { text: 'x'.repeat(2_000) }, { 'Accept-Encoding': 'gzip' });
    expect(large.headers.get('content-encoding')).toBe('gzip');
    expect(await large.json()).toEqual({ text: 'x'.repeat(2_000) });
  });
});

const transports = {
  'gRPC over HTTP/2': () => {
    const sessionManager = new Http2SessionManager(server.url);
    return {
      transport: createGrpcTransport({ baseUrl: server.url, sessionManager }),
      done: () => sessionManager.abort(),
    };
  },
  'Connect over HTTP/2': () => {
    const sessionManager = new Http2SessionManager(server.url);
    const transport = createConnectTransport({ baseUrl: server.url, httpVersion: '2', sessionManager });
    return { transport, done: () => sessionManager.abort() };
  },
  'Connect over HTTP/1.1': () => ({
    transport: createConnectTransport({ baseUrl: server.url, httpVersion: '1.1' }),
    done: () => {},
  }),
  'gRPC-Web over HTTP/1.1': () => ({
    transport: createGrpcWebTransport({ baseUrl: server.url, httpVersion: '1.1' }),
    done: () => {},
  }),
};

describe.each(Object.entries(transports))('%s', (name, open) => {
  const connect = () => {
    const { transport, done } = open();
    onTestFinished(done);
    return createClient(ProbeService, transport);
  };

  it('calls unary methods and server streams', async () => {
    const client = connect();
    expect(await client.echo({ text: 'one' })).toMatchObject({ text: 'one' });
    const texts = [];
    for await (const message of client.count({ text: '3' })) {
      texts.push(message.text);
    }
    expect(texts).toEqual(['0', '1', '2']);
  });

  if (name.endsWith('/2')) {
    it('holds a conversation, each answer before the next question', async () => {
      const client = connect();
      const answers: string[] = [];
      let heard = Promise.withResolvers<void>();
      async function* questions() {
        for (const text of ['a', 'b', 'c']) {
          heard = Promise.withResolvers<void>();
          yield { text };
          await heard.promise;
        }
      }
      for await (const { text } of client.chat(questions())) {
        answers.push(text);
        heard.resolve();
      }
      expect(answers).toEqual(['A', 'B', 'C']);
    });
  } else {
    it('refuses a conversation, which HTTP/1 cannot carry', async () => {
      const answers = connect().chat((async function* () {})());
      await expect(answers[Symbol.asyncIterator]().next()).rejects.toThrow(ConnectError);
    });
  }

  it('carries 3 MB both ways', async () => {
    const body = new Uint8Array(3_000_000).map((_, index) => index * 7);
    const echoed = await connect().echo({ body });
    expect(Buffer.compare(echoed.body, body)).toBe(0);
  });

  it('refuses a message over the limit with resource_exhausted', async () => {
    const call = connect().echo({ body: new Uint8Array(maxMessageBytes + 1) });
    await expect(call).rejects.toMatchObject({ code: Code.ResourceExhausted });
    // Over HTTP/1.1 this goes through the same connection, behind the rest of the refused message.
    expect(await connect().echo({ text: 'next' })).toMatchObject({ text: 'next' });
  });

  it('hands on an error that a handler means, and hides and reports one that it does not', async () => {
    const client = connect();
    await expect(client.hold({ text: 'refused' })).rejects.toMatchObject({
      code: Code.FailedPrecondition,
      rawMessage: 'not today',
    });
    defects.length = 0;
    const failure = await client.hold({}).catch((error: unknown) => ConnectError.from(error));
    expect(failure).toMatchObject({ code: Code.Internal });
    expect(String(failure)).not.toContain('secret');
    expect(defects).toEqual([[expect.objectContaining({ message: 'secret' }), 'probe.v1.ProbeService/Hold']]);
  });
});

describe('grpc-js with proto-loader', () => {
  const load = (file: DescFile) => {
    const set = toBinary(FileDescriptorSetSchema, create(FileDescriptorSetSchema, { file: [file.proto] }));
    const options = { keepCase: true, defaults: true, enums: String };
    return grpc.loadPackageDefinition(loadFileDescriptorSetFromBuffer(Buffer.from(set), options));
  };
  const open = (service: grpc.ServiceClientConstructor) => {
    const client = new service(`127.0.0.1:${server.port}`, grpc.credentials.createInsecure());
    onTestFinished(() => client.close());
    return client;
  };

  it('calls the executor that has no package', async () => {
    const client = open(load(ContainerExecutor.file).ContainerExecutor as grpc.ServiceClientConstructor);
    const answer = await new Promise((resolve, reject) => {
      client.Execute!({ input_file: 'in', output_file: 'out' }, (error: unknown, value: unknown) =>
        error ? reject(error) : resolve(value),
      );
    });
    expect(answer).toEqual({ success: true, message: 'in to out' });
  });

  it('asks for health, and is told of a service that is not there', async () => {
    const definition = load(health.Health.file) as unknown as HealthPackage;
    const client = open(definition.grpc.health.v1.Health);
    const check = (service: string) =>
      new Promise((resolve) => client.Check!({ service }, (error: unknown, value: unknown) => resolve(error ?? value)));
    expect(await check('')).toEqual({ status: 'SERVING' });
    expect(await check('ContainerExecutor')).toEqual({ status: 'SERVING' });
    expect(await check('nobody')).toMatchObject({ code: grpc.status.NOT_FOUND });
  });

  it('learns that a method does not exist', async () => {
    const client = new grpc.Client(`127.0.0.1:${server.port}`, grpc.credentials.createInsecure());
    onTestFinished(() => client.close());
    const raw = (bytes: Buffer) => bytes;
    for (const path of ['/ContainerExecutor/Nothing', '/nobody.v1.Nothing/Here']) {
      const error = await new Promise((resolve) => {
        client.makeUnaryRequest(path, raw, raw, Buffer.alloc(0), resolve);
      });
      expect(error).toMatchObject({ code: grpc.status.UNIMPLEMENTED, details: `unknown method ${path.slice(1)}` });
    }
  });
});

describe('what is no RPC', () => {
  it('goes to fetch, over HTTP/1.1', async () => {
    expect(await (await fetch(`${server.url}/hello`)).text()).toBe('hello');
    expect((await fetch(`${server.url}/nowhere`)).status).toBe(404);
    const upload = await fetch(`${server.url}/upload`, { method: 'POST', body: new Uint8Array(5_000_000) });
    expect(await upload.json()).toEqual({ bytes: 5_000_000 });
  });

  it('streams server-sent events', async () => {
    const response = await fetch(`${server.url}/events`);
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    expect((await response.text()).match(/^data: \d$/gm)).toEqual(['data: 0', 'data: 1', 'data: 2']);
  });

  it('has its defects reported and answered with 500', async () => {
    defects.length = 0;
    const response = await fetch(`${server.url}/breaks`);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('a defect');
    expect(defects).toEqual([[expect.objectContaining({ message: 'a defect' }), 'fetch']]);
  });

  it('is not taken for a page if it can only be meant for an RPC', async () => {
    const response = await post('/probe.v1.ProbeService/Ehco', {});
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      code: 'unimplemented',
      message: 'unknown method probe.v1.ProbeService/Ehco',
      details: [expect.objectContaining(because('UNKNOWN_METHOD'))],
    });
  });

  it('leaves the global Request and Response alone', () => {
    expect(new Response('x')).toBeInstanceOf(globalThis.Response);
    expect(String(globalThis.Request)).toContain('webidl');
  });
});

describe('binding', () => {
  it('says which port is taken', async () => {
    const again = serve({ port: server.port, routes: () => {}, services: [] });
    await expect(again).rejects.toThrow(PortTakenError);
    await expect(again).rejects.toMatchObject({ code: 'EADDRINUSE', host: '127.0.0.1', port: server.port });
  });

  it('says what else is wrong with an address', async () => {
    const elsewhere = serve({ host: '192.0.2.1', port: 0, routes: () => {}, services: [] });
    await expect(elsewhere).rejects.toThrow(BindError);
    await expect(elsewhere).rejects.toMatchObject({ code: 'EADDRNOTAVAIL', host: '192.0.2.1' });
  });

  it('serves on IPv6', async () => {
    const v6 = await serve({ host: '::1', port: 0, routes: () => {}, services: [] });
    onTestFinished(() => v6.close({ graceMs: 0 }));
    const response = await fetch(`${v6.url}/grpc.health.v1.Health/Check`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{}',
    });
    expect(await response.json()).toEqual({ status: 'SERVING' });
  });
});
