import http from 'node:http';
import http2 from 'node:http2';
import { errorDetails } from '@baton/contract/grpc';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createContextKey } from '@connectrpc/connect';
import { encodeEnvelope } from '@connectrpc/connect/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunningServer, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

// Small unary calls pass by what carries all others. Connect takes a content type in capitals, too, and what passes it by does not:
// so the same call can be made on both ways, and their answers compared.
const grpc = ['application/grpc+proto', 'Application/grpc+proto'] as const;
const connect = ['application/proto', 'Application/proto'] as const;

const schema = ProbeService.method.echo.input;
const probe = (text: string) => toBinary(schema, create(schema, { text, body: new Uint8Array([1, 2]) }));
const shared = create(schema, { text: 'the same for all' });
const key = createContextKey('none');
const seen: {
  timeoutMs: number | undefined;
  header: string | null;
  value: string;
  url: string;
  protocol: string;
  bytes: unknown;
}[] = [];
let server: RunningServer;
let session: http2.ClientHttp2Session;

beforeAll(async () => {
  server = await serve({
    port: 0,
    services: [ProbeService],
    onError: () => {},
    maxMessageBytes: 64 * 1024,
    interceptors: [
      (next) => (request) => {
        request.contextValues.set(key, 'from the interceptor');
        return next({ ...request });
      },
    ],
    routes(router) {
      router.service(ProbeService, {
        echo(request, context) {
          const { requestHeader, values, url, protocolName: protocol } = context;
          const bytes = (request.body as Uint8Array).constructor;
          const timeoutMs = context.timeoutMs();
          seen.push({ timeoutMs, header: requestHeader.get('x-mine'), value: values.get(key), url, protocol, bytes });
          if (request.text === 'headers') {
            context.responseHeader.set('x-head', 'h');
            context.responseTrailer.set('x-tail', 't');
          }
          return request;
        },
        async hold({ text }, { signal }) {
          if (text === 'defect') throw new Error('secret');
          if (text === 'slow') {
            await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
            throw signal.reason;
          }
          throw new ConnectError(`100 % ü: ${text}`, Code.FailedPrecondition, { 'x-meta': 'm' }, [
            { desc: errorDetails.ErrorInfoSchema, value: { reason: 'NOT_TODAY', domain: 'baton' } },
          ]);
        },
        async *count({ text }, { signal, responseHeader, responseTrailer }) {
          if (text === 'nothing') return;
          if (text === 'headers') {
            responseHeader.set('x-head', 'h');
            responseTrailer.set('x-tail', 't');
          }
          if (text === 'no') throw new ConnectError('not one', Code.NotFound);
          yield { text };
          if (text === 'defect') throw new Error('secret');
          if (text === 'slow') {
            await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
            throw signal.reason;
          }
          if (text === 'no more')
            throw new ConnectError(`100 % ü: ${text}`, Code.Aborted, { 'x-meta': 'm' }, [
              { desc: errorDetails.ErrorInfoSchema, value: { reason: 'NOT_TODAY', domain: 'baton' } },
            ]);
          yield shared;
          // More than a stream takes at once.
          if (text === 'much') for (let n = 0; n < 100; n++) yield { body: new Uint8Array(40_000).fill(n) };
        },
        async *chat() {},
      });
    },
  });
  session = http2.connect(server.url);
});
afterAll(async () => {
  session.destroy();
  await server.close({ graceMs: 100 });
});

type Fields = Record<string, unknown>;

function overHttp2(method: string, type: string, parts: Uint8Array[], extra: http2.OutgoingHttpHeaders = {}) {
  return new Promise<{ headers: Fields; trailers: Fields; body: string }>((resolve, reject) => {
    const path = `/probe.v1.ProbeService/${method}`;
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': type,
      te: 'trailers',
      ...extra,
    });
    const answer = { headers: {} as Fields, trailers: {} as Fields, body: '' };
    stream.on('response', ({ date: _, ...headers }) => (answer.headers = { ...headers }));
    stream.on('trailers', (trailers) => (answer.trailers = { ...trailers }));
    stream.setEncoding('latin1').on('data', (text) => (answer.body += text));
    stream.on('end', () => resolve(answer)).on('error', reject);
    for (const part of parts) stream.write(part);
    stream.end();
  });
}

function overHttp1(method: string, type: string, body: Uint8Array, extra: http.OutgoingHttpHeaders = {}) {
  return new Promise<{ status: number; headers: Fields; body: string }>((resolve, reject) => {
    const headers = { 'content-type': type, 'content-length': body.length, ...extra };
    const request = http.request(`${server.url}/probe.v1.ProbeService/${method}`, { method: 'POST', headers });
    request.on('error', reject).on('response', (response) => {
      const { date: _, ...rest } = response.headers;
      let text = '';
      response.setEncoding('latin1').on('data', (part) => (text += part));
      response.on('end', () => resolve({ status: response.statusCode!, headers: rest, body: text }));
    });
    request.end(body);
  });
}

const framed = (text: string) => encodeEnvelope(0, probe(text));
const long = 'x'.repeat(3_000);

describe('gRPC: what passes by is answered as all else', () => {
  it.each<[string, string, Uint8Array[], http2.OutgoingHttpHeaders?]>([
    ['an answer', 'Echo', [framed('hello')]],
    ['an empty message', 'Echo', [encodeEnvelope(0, new Uint8Array())]],
    [
      'a message in parts',
      'Echo',
      [framed('hello').subarray(0, 3), framed('hello').subarray(3, 6), framed('hello').subarray(6)],
    ],
    ['headers and trailers of the handler', 'Echo', [framed('headers')]],
    ['an answer that is compressed', 'Echo', [framed(long)], { 'grpc-accept-encoding': 'br, gzip' }],
    ['an answer too small to compress', 'Echo', [framed('x')], { 'grpc-accept-encoding': 'gzip' }],
    ['an error with details', 'Hold', [framed('no')]],
    ['a defect', 'Hold', [framed('defect')]],
    ['a deadline', 'Hold', [framed('slow')], { 'grpc-timeout': '20m' }],
    ['no message', 'Echo', []],
    ['two messages', 'Echo', [framed('a'), framed('b')]],
    ['a message that is cut', 'Echo', [framed('hello').subarray(0, 8)]],
    ['bytes that are no message', 'Echo', [encodeEnvelope(0, new Uint8Array([255, 255]))]],
    ['a message too large', 'Echo', [encodeEnvelope(0, probe('x'.repeat(70_000)))]],
    ['a flag that is not known', 'Echo', [encodeEnvelope(1, probe('x'))]],
    ['a timeout that is none', 'Echo', [framed('x')], { 'grpc-timeout': 'soon' }],
    ['a compression that is not known', 'Echo', [framed('x')], { 'grpc-encoding': 'zip' }],
    ['answers', 'Count', [framed('some')]],
    ['more answers than are taken at once', 'Count', [framed('much')]],
    ['answers, some of them compressed', 'Count', [framed(long)], { 'grpc-accept-encoding': 'gzip' }],
    ['no answers', 'Count', [framed('nothing')]],
    ['headers and trailers of a handler with answers', 'Count', [framed('headers')]],
    ['an error instead of answers', 'Count', [framed('no')]],
    ['an error behind an answer', 'Count', [framed('no more')]],
    ['a defect behind an answer', 'Count', [framed('defect')]],
    ['a deadline behind an answer', 'Count', [framed('slow')], { 'grpc-timeout': '50m' }],
    ['answers to bytes that are no message', 'Count', [encodeEnvelope(0, new Uint8Array([255, 255]))]],
    ['answers to two messages', 'Count', [framed('a'), framed('b')]],
  ])('%s', async (_, method, parts, extra) => {
    const [lean, full] = [
      await overHttp2(method, grpc[0], parts, extra),
      await overHttp2(method, grpc[1], parts, extra),
    ];
    expect(lean).toEqual(full);
    expect(lean.headers[':status']).toBe(200);
  });
});

describe('Connect over HTTP/1.1: what passes by is answered as all else', () => {
  it.each<[string, string, Uint8Array, http.OutgoingHttpHeaders?]>([
    ['an answer', 'Echo', probe('hello')],
    ['an empty message', 'Echo', new Uint8Array()],
    ['headers and trailers of the handler', 'Echo', probe('headers')],
    ['an answer that is compressed', 'Echo', probe(long), { 'accept-encoding': 'gzip' }],
    ['an error with details', 'Hold', probe('no')],
    ['a defect', 'Hold', probe('defect')],
    ['a deadline', 'Hold', probe('slow'), { 'connect-timeout-ms': '20' }],
    ['bytes that are no message', 'Echo', new Uint8Array([255, 255])],
    ['a message too large', 'Echo', probe('x'.repeat(70_000))],
    ['a timeout that is none', 'Echo', probe('x'), { 'connect-timeout-ms': 'soon' }],
    ['an origin that is not ours', 'Echo', probe('x'), { origin: 'http://elsewhere' }],
    ['a host that is not ours', 'Echo', probe('x'), { host: 'elsewhere' }],
  ])('%s', async (_, method, body, extra) => {
    expect(await overHttp1(method, connect[0], body, extra)).toEqual(await overHttp1(method, connect[1], body, extra));
  });
});

describe('what a handler is told', () => {
  it.each(['grpc', 'connect'])('over %s', async (protocol) => {
    seen.length = 0;
    for (const way of [0, 1] as const) {
      if (protocol === 'grpc')
        await overHttp2('Echo', grpc[way], [framed('x')], { 'x-mine': 'm', 'grpc-timeout': '9S' });
      else await overHttp1('Echo', connect[way], probe('x'), { 'x-mine': 'm', 'connect-timeout-ms': 9_000 });
    }
    const url = `${server.url}/probe.v1.ProbeService/Echo`;
    for (const told of seen) {
      expect(told).toMatchObject({ header: 'm', value: 'from the interceptor', url, protocol, bytes: Uint8Array });
      expect(told.timeoutMs).toBeGreaterThan(8_000);
      expect(told.timeoutMs).toBeLessThanOrEqual(9_000);
    }
    expect(seen).toHaveLength(2);
  });
});

it('ends with what the peer asked for', async () => {
  const answer = await overHttp2('Echo', grpc[0], [framed('hello')]);
  const body = Buffer.from(answer.body, 'latin1');
  expect(fromBinary(schema, body.subarray(5))).toMatchObject({ text: 'hello' });
  expect(answer.trailers).toMatchObject({ 'grpc-status': '0' });
});
