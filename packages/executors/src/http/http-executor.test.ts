import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { FailureType, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Outcome } from '@baton/runtime';
import { afterEach, describe, expect, test } from 'vitest';
import { outputOf, start } from '../testing/attempt.ts';
import { httpExecutor } from './http-executor.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown;

/** A function behind a URL of this machine. */
async function serve(handler: Handler, host = '127.0.0.1'): Promise<string> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => void handler(request, response, Buffer.concat(chunks)));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}

const json = (response: ServerResponse, value: unknown, status = 200, headers: Record<string, string> = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
};

interface Call {
  url: string;
  input?: unknown;
  settings?: Record<string, unknown>;
  lease?: Record<string, unknown>;
  more?: Partial<AttemptContext>;
  allow?: string[];
  variables?: Record<string, string | undefined>;
}

function begin({ url, input, settings, lease, more, allow = ['127.0.0.0/8'], variables = {} }: Call) {
  const executor = httpExecutor({ allow });
  closers.push(() => executor.close?.());
  return start(executor, { ...lease, executor: { case: 'http', value: { url, ...settings } } }, input, {
    variable: (name) => variables[name],
    ...more,
  });
}
const call = async (options: Call): Promise<Outcome> => begin(options).outcome;
async function failureOf(options: Call) {
  const outcome = await call(options);
  if (outcome.kind !== 'failure') throw new Error(`no failure: ${JSON.stringify(outcome)}`);
  return outcome.failure;
}

describe('a task of a function behind a URL', () => {
  test('sends the input, says whose it is, and takes the answer as the output', async () => {
    let seen: { method?: string; headers: IncomingMessage['headers']; body: string } | undefined;
    const url = await serve((request, response, body) => {
      seen = { method: request.method!, headers: request.headers, body: body.toString() };
      json(response, { sum: 3 });
    });
    const outcome = await call({
      url: `${url}/add`,
      input: { a: 1, b: 2 },
      lease: { runId: '7', nodeId: 'größe' },
      settings: { headers: { 'X-Team': 'energy' } },
    });
    expect(outputOf(outcome)).toEqual({ sum: 3 });
    expect(seen).toMatchObject({ method: 'POST', body: '{"a":1,"b":2}' });
    expect(seen!.headers).toMatchObject({
      'content-type': 'application/json',
      'baton-task-id': '42',
      'baton-attempt': '2',
      'baton-epoch': '3',
      'baton-run-id': '7',
      'baton-node-id': 'gr%C3%B6%C3%9Fe',
      'idempotency-key': '42',
      'x-team': 'energy',
    });
  });

  test('may send an envelope that says more, and bytes as they are', async () => {
    const url = await serve((request, response, body) => {
      response.writeHead(200, { 'content-type': request.headers['content-type']! });
      response.end(body);
    });
    expect(outputOf(await call({ url, input: [1], settings: { body: 'envelope' } }))).toEqual({
      input: [1],
      task: { id: '42', kind: '', attempt: 2, max_attempts: 4, epoch: 3 },
    });
    const bytes = new Uint8Array([0, 255, 1]);
    const raw = await call({ url, lease: { input: bytes, encoding: PayloadEncoding.BYTES } });
    expect(new Uint8Array(outputOf(raw) as Uint8Array)).toEqual(bytes);
  });

  test('has its input as the query where there is no body', async () => {
    const url = await serve((request, response) => json(response, { method: request.method, url: request.url }));
    const get = { settings: { method: 'GET' } };
    expect(outputOf(await call({ url: `${url}/x?a=1`, input: { b: 'ü', c: true, d: null }, ...get }))).toEqual({
      method: 'GET',
      url: '/x?a=1&b=%C3%BC&c=true',
    });
    expect(await failureOf({ url, input: { deep: { er: 1 } }, ...get })).toMatchObject({ nonRetryable: true });
  });

  test('answers: nothing is null, text is a text, anything else bytes; compressed ones are opened', async () => {
    const answers: Record<string, Handler> = {
      '/none': (_, response) => response.writeHead(204).end(),
      '/text': (_, response) => response.writeHead(200, { 'content-type': 'text/plain' }).end('grüß'),
      '/bytes': (_, response) => response.writeHead(200).end(Buffer.from([1, 2])),
      '/gzip': (_, response) =>
        response
          .writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
          .end(gzipSync('{"zipped":true}')),
    };
    const url = await serve((request, response, body) => answers[request.url!]!(request, response, body));
    expect(outputOf(await call({ url: `${url}/none` }))).toBeNull();
    expect(outputOf(await call({ url: `${url}/text` }))).toBe('grüß');
    expect([...(outputOf(await call({ url: `${url}/bytes` })) as Uint8Array)]).toEqual([1, 2]);
    expect(outputOf(await call({ url: `${url}/gzip` }))).toEqual({ zipped: true });
  });

  test('a large answer becomes a blob; one beyond its limit, also a compressed one, fails for good', async () => {
    const url = await serve((request, response) => {
      const text = JSON.stringify('x'.repeat(3 * 1024 * 1024));
      const zip = request.url === '/zip';
      response.writeHead(200, { 'content-type': 'application/json', ...(zip && { 'content-encoding': 'gzip' }) });
      response.end(zip ? gzipSync(text) : text);
    });
    const outcome = await call({ url, settings: { maxResponseBytes: 4n * 1024n * 1024n } });
    expect(outcome).toMatchObject({ kind: 'success', blob: { sha256: 'ab'.repeat(32) } });
    for (const path of ['', '/zip'])
      expect(await failureOf({ url: url + path })).toMatchObject({
        exceptionType: 'AnswerTooLarge',
        nonRetryable: true,
      });
  });

  test('says that a JSON answer is none', async () => {
    const url = await serve((_, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{'));
    expect(await failureOf({ url })).toMatchObject({
      type: FailureType.EVALUATION_ERROR,
      message: expect.stringMatching(/says .* is not/),
    });
  });

  test('tells of itself while it runs, line by line', async () => {
    const url = await serve(async (_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.write('{"log":"one"}\n{"progress":0.5,"mess');
      response.write('age":"half"}\nnot json\n');
      response.end('{"output":{"done":true}}\n');
    });
    const progress: unknown[] = [];
    const { outcome, lines } = begin({ url, more: { progress: (...said) => progress.push(said) } });
    expect(outputOf(await outcome)).toEqual({ done: true });
    expect(lines).toEqual(['one', 'not json']);
    expect(progress).toEqual([[0.5, 'half']]);
  });

  test('a stream of lines that is cut is no success', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.write('{"log":"one"}\n');
      response.write('{"output":1}\n', () => response.destroy());
    });
    expect(await failureOf({ url })).toMatchObject({ type: FailureType.NETWORK_ERROR });
  });

  test('that takes the task over is asked again until it answers', async () => {
    let asked = 0;
    const url = await serve((request, response) => {
      if (request.method === 'POST') return json(response, {}, 202, { location: '/jobs/1' });
      asked++;
      return asked < 3 ? json(response, {}, 202, { location: '/jobs/1' }) : json(response, 'ready');
    });
    expect(outputOf(await call({ url, settings: { pollIntervalMs: 5 } }))).toBe('ready');
    expect(asked).toBe(3);
    // Without: 202 is an answer like others.
    expect(outputOf(await call({ url }))).toEqual({});
  });
});

describe('failures', () => {
  test.each([
    [400, {}, { type: FailureType.EVALUATION_ERROR, nonRetryable: true, exceptionType: 'HTTP 400' }],
    [429, { 'retry-after': '7' }, { nonRetryable: false, retryAfterMs: 7_000 }],
    [500, {}, { type: FailureType.EVALUATION_ERROR, nonRetryable: false }],
    [503, {}, { type: FailureType.NETWORK_ERROR, nonRetryable: false }],
    [304, {}, { type: FailureType.EVALUATION_ERROR, nonRetryable: false }],
  ])('status %d', async (status, headers, expected) => {
    const url = await serve((_, response) => response.writeHead(status, headers).end());
    expect(await failureOf({ url })).toMatchObject(expected);
  });

  test('are what the function says of them', async () => {
    const error = { type: 'Overdrawn', message: 'no money', stack: 'at pay()', retryable: true, retry_after_ms: 50 };
    const url = await serve((_, response) => json(response, { error }, 402));
    expect(await failureOf({ url: `${url}/pay` })).toMatchObject({
      type: FailureType.EVALUATION_ERROR,
      exceptionType: 'Overdrawn',
      message: `${url}/pay answered 402: no money`,
      stack: 'at pay()',
      nonRetryable: false,
      retryAfterMs: 50,
    });
    const problem = await serve((_, response) => json(response, { title: 'Gone', detail: 'moved away' }, 410));
    expect(await failureOf({ url: problem })).toMatchObject({
      message: expect.stringMatching(/Gone: moved away$/),
      nonRetryable: true,
    });
  });

  test('of the network', async () => {
    const gone = await serve(() => {});
    await closers.pop()!();
    expect(await failureOf({ url: gone })).toMatchObject({
      type: FailureType.NETWORK_ERROR,
      exceptionType: 'ECONNREFUSED',
    });
    const cut = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' });
      response.write('{', () => response.destroy());
    });
    expect(await failureOf({ url: cut })).toMatchObject({ type: FailureType.NETWORK_ERROR });
  });

  test('a stop ends the request, and the function sees it', async () => {
    let closed: () => void = () => {};
    const seen = new Promise<void>((resolve) => {
      closed = resolve;
    });
    let arrived: () => void = () => {};
    const there = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const url = await serve((_, response) => {
      response.on('close', () => closed());
      arrived();
    });
    const { outcome, abort } = begin({ url });
    await there;
    abort.abort(new Error('stop'));
    expect(await outcome).toEqual({ kind: 'cancelled' });
    await seen;
  });
});

describe('where requests may go', () => {
  test('not to this machine, its network or a metadata service, unless the worker says so', async () => {
    let asked = 0;
    const url = await serve((_, response) => {
      asked++;
      json(response, 1);
    });
    const { port } = new URL(url);
    for (const host of ['127.0.0.1', 'localhost', '2130706433', '[::ffff:127.0.0.1]', '0'])
      expect(await failureOf({ url: `http://${host}:${port}/`, allow: ['public'] })).toMatchObject({
        exceptionType: 'AddressRefused',
        nonRetryable: true,
        message: expect.stringMatching(/BATON_HTTP_ALLOW/),
      });
    expect(await failureOf({ url: 'http://169.254.169.254/latest/meta-data/', allow: ['public'] })).toMatchObject({
      exceptionType: 'AddressRefused',
    });
    expect(asked).toBe(0);
    expect(outputOf(await call({ url, allow: [`127.0.0.1:${port}`] }))).toBe(1);
  });

  test('a redirect is followed where it was asked for, and each step is looked at', async () => {
    const inner = await serve((request, response) => json(response, request.headers), '127.0.0.2');
    const outer = await serve((request, response) =>
      request.url === '/loop'
        ? response.writeHead(302, { location: '/loop' }).end()
        : response.writeHead(307, { location: inner }).end(),
    );
    const settings = {
      maxRedirects: 2,
      secretHeaders: { authorization: 'TOKEN' },
      headers: { cookie: 'a', 'x-b': 'c' },
    };
    const variables = { TOKEN: 'Bearer secret' };
    const followed = outputOf(await call({ url: outer, settings, variables })) as Record<string, string>;
    // What was meant for one origin does not reach another.
    expect(followed).toMatchObject({ 'x-b': 'c' });
    expect(followed.authorization ?? followed.cookie).toBeUndefined();
    expect(await failureOf({ url: outer, settings, variables, allow: ['127.0.0.1'] })).toMatchObject({
      exceptionType: 'AddressRefused',
    });
    expect(await failureOf({ url: `${outer}/loop`, settings, variables })).toMatchObject({
      exceptionType: 'RedirectRefused',
    });
    expect(await failureOf({ url: outer })).toMatchObject({ exceptionType: 'HTTP 307' });
  });
});

test('secrets are taken from the worker, and what may not be sent is named, all at once, and no secret with it', async () => {
  const url = await serve((request, response) => json(response, request.headers.authorization));
  const settings = { secretHeaders: { authorization: 'TOKEN' } };
  expect(outputOf(await call({ url, settings, variables: { TOKEN: 'Bearer s3cret' } }))).toBe('Bearer s3cret');
  const { message, nonRetryable } = await failureOf({
    url,
    settings: { headers: { Host: 'x', 'Baton-Epoch': '9' }, secretHeaders: { a: 'MISSING', b: 'BROKEN' } },
    variables: { BROKEN: 's3cret\nx' },
  });
  expect(nonRetryable).toBe(true);
  for (const part of ['Host', 'Baton-Epoch', 'MISSING', 'BROKEN']) expect(message).toContain(part);
  expect(message).not.toContain('s3cret');
});
