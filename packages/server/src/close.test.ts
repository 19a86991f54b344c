import { once } from 'node:events';
import net from 'node:net';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type RunningServer, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

/** A server whose `hold` answers when the test says so. */
async function start() {
  let entered = Promise.withResolvers<AbortSignal>();
  const release = Promise.withResolvers<void>();
  const server = await serve({
    port: 0,
    services: [ProbeService],
    routes: (router, { closing }) =>
      router.service(ProbeService, {
        echo: (message) => message,
        async hold(message, { signal }) {
          entered.resolve(signal);
          await release.promise;
          return message;
        },
        async *count(message) {
          yield message;
          await (message.text === 'deaf' ? new Promise(() => {}) : once(closing, 'abort'));
          yield { text: 'closing' };
        },
      }),
    fetch: (request, { closing }) => {
      const body = new ReadableStream<Uint8Array>({
        async start(controller) {
          controller.enqueue(new TextEncoder().encode('begun, '));
          await (request.url.endsWith('/deaf') ? new Promise(() => {}) : once(closing, 'abort'));
          controller.enqueue(new TextEncoder().encode('ended'));
          controller.close();
        },
      });
      return new Response(body);
    },
  });
  onTestFinished(() => server.close({ graceMs: 0 }));
  return {
    server,
    release: release.resolve,
    /** Starts a call of `hold`; resolves when it is in the handler. */
    async hold(client: ReturnType<typeof open>) {
      entered = Promise.withResolvers();
      const answer = client.hold({ text: 'held' });
      answer.catch(() => {});
      return { answer, signal: await entered.promise };
    },
  };
}

function open(server: RunningServer, protocol: string) {
  if (protocol === 'gRPC') {
    const sessionManager = new Http2SessionManager(server.url);
    onTestFinished(() => sessionManager.abort());
    return createClient(ProbeService, createGrpcTransport({ baseUrl: server.url, sessionManager }));
  }
  return createClient(ProbeService, createConnectTransport({ baseUrl: server.url, httpVersion: '1.1' }));
}

const refusal = (url: string) => fetch(url).then(String, (error) => error.cause.code);

describe.each(['gRPC', 'Connect over HTTP/1.1'])('close, with a call in flight over %s', (protocol) => {
  it('takes no new connection, lets the call finish, and ends when it has', async () => {
    const { server, hold, release } = await start();
    const client = open(server, protocol);
    await client.echo({ text: 'an idle connection' });
    const { answer } = await hold(client);
    let closed = false;
    const close = server.close({ graceMs: 60_000 }).then(() => {
      closed = true;
    });
    expect(await refusal(server.url)).toBe('ECONNREFUSED');
    expect(closed).toBe(false);
    release();
    expect(await answer).toMatchObject({ text: 'held' });
    await close;
  });

  it('cuts the call after the grace period, telling its handler', async () => {
    const { server, hold } = await start();
    const { answer, signal } = await hold(open(server, protocol));
    await server.close({ graceMs: 50 });
    await expect(answer).rejects.toMatchObject({ code: Code.Unavailable, rawMessage: 'the server is closing' });
    expect(signal.aborted).toBe(true);
    expect(ConnectError.from(signal.reason).code).toBe(Code.Unavailable);
  });

  it('cuts a stream that does not listen', async () => {
    const { server } = await start();
    const stream = open(server, protocol).count({ text: 'deaf' })[Symbol.asyncIterator]();
    await stream.next();
    const close = server.close({ graceMs: 50 });
    await expect(stream.next()).rejects.toMatchObject({ code: Code.Unavailable });
    await close;
  });

  it('tells streams that wait, which then end by themselves', async () => {
    const { server } = await start();
    const texts: string[] = [];
    let close: Promise<void> | undefined;
    for await (const { text } of open(server, protocol).count({ text: 'begun' })) {
      texts.push(text);
      close ??= server.close({ graceMs: 60_000 });
    }
    expect(texts).toEqual(['begun', 'closing']);
    await close;
  });
});

it('tells long answers of fetch likewise', async () => {
  const { server } = await start();
  const response = await fetch(server.url);
  const close = server.close({ graceMs: 60_000 });
  expect(await response.text()).toBe('begun, ended');
  await close;
});

it('cuts long answers of fetch after the grace period', async () => {
  const { server } = await start();
  const response = await fetch(`${server.url}/deaf`);
  const close = server.close({ graceMs: 50 });
  await expect(response.text()).rejects.toThrow('terminated');
  await close;
});

it('can be called again, which brings the cut forward', async () => {
  const { server, hold } = await start();
  const { answer } = await hold(open(server, 'gRPC'));
  const first = server.close({ graceMs: 60_000 });
  const second = server.close({ graceMs: 0 });
  await Promise.all([first, second, server.close()]);
  await expect(answer).rejects.toMatchObject({ code: Code.Unavailable });
  await server.close();
});

it('does not wait for connections that never said anything', async () => {
  const { server } = await start();
  const socket = net.connect(server.port, '127.0.0.1');
  await once(socket, 'connect');
  const gone = once(socket.resume(), 'close');
  await server.close({ graceMs: 60_000 });
  await gone;
});

it('frees the port', async () => {
  const { server } = await start();
  await server.close();
  const next = await serve({ port: server.port, services: [], routes: () => {} });
  await next.close();
});
