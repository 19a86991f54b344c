import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ServerTiming, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

async function start(timing: Partial<ServerTiming> = {}) {
  const server = await serve({
    port: 0,
    services: [ProbeService],
    timing,
    routes: (router) => router.service(ProbeService, { echo: (message) => message, chat: (messages) => messages }),
  });
  onTestFinished(() => server.close({ graceMs: 0 }));
  return server;
}

async function dial(port: number) {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** An HTTP/2 connection over a socket that the test holds, so that it can be muted. */
async function dialHttp2(port: number) {
  const socket = await dial(port);
  const session = http2.connect('http://127.0.0.1', { createConnection: () => socket });
  session.on('error', () => {});
  onTestFinished(() => session.destroy());
  await once(session, 'remoteSettings');
  return { socket, session };
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

it('recognizes HTTP/2 in a preface that arrives byte by byte', async () => {
  const server = await start();
  const socket = await dial(server.port);
  const preface = Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
  ]);
  for (const byte of preface) {
    socket.write(Buffer.of(byte));
    await nextTurn();
  }
  const [frame] = (await once(socket, 'data')) as [Buffer];
  expect(frame[3]).toBe(4); // The server's SETTINGS.
});

it('recognizes HTTP/1 byte by byte, and in one write with a second request behind the first', async () => {
  const server = await start();
  const body = '{"text":"x"}';
  const request = `POST /probe.v1.ProbeService/Echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
  const slow = await dial(server.port);
  for (const byte of Buffer.from(`${request}Connection: close\r\n\r\n${body}`)) {
    slow.write(Buffer.of(byte));
    await nextTurn();
  }
  expect(await text(slow)).toMatch(/^HTTP\/1\.1 200 [\s\S]*\{"text":"x"\}/);

  const fast = await dial(server.port);
  fast.write(`${request}\r\n${body}${request}Connection: close\r\n\r\n${body}`);
  expect((await text(fast)).match(/\{"text":"x"\}/g)).toHaveLength(2);
});

it.each(['PUT', 'PRINT', 'P'])('takes a request that begins like a preface (%s) for HTTP/1', async (method) => {
  const server = await start();
  const socket = await dial(server.port);
  socket.write(`${method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
  expect(await text(socket)).toMatch(method === 'PUT' ? /^HTTP\/1\.1 404 / : /^HTTP\/1\.1 400 |^$/);
});

it.each(['', 'P', 'PR'])('ends a connection that says "%s" and no more', async (bytes) => {
  const server = await start({ silenceTimeoutMs: 50 });
  const socket = await dial(server.port);
  socket.write(bytes);
  await once(socket.resume(), 'close');
});

it('survives peers that vanish before or after they have begun to speak', async () => {
  const server = await start();
  for (const bytes of [
    '',
    'P',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'PRI * nonsense\r\n\r\n',
    'POST / HTTP/1.1\r\nHo',
    '\u0016\u0003\u0001',
  ]) {
    const reset = await dial(server.port);
    reset.write(bytes);
    await nextTurn();
    reset.resetAndDestroy();
    const ended = await dial(server.port);
    ended.end(bytes);
    await once(ended.resume(), 'close');
  }
  expect((await fetch(server.url)).status).toBe(404);
});

it('survives streams that are reset and GOAWAY in the middle of a call', async () => {
  const server = await start();
  const { session } = await dialHttp2(server.port);
  const open = () =>
    session.request({
      ':method': 'POST',
      ':path': '/probe.v1.ProbeService/Chat',
      ':authority': '127.0.0.1',
      'content-type': 'application/grpc',
    });
  const reset = open();
  reset.on('error', () => {});
  reset.write(Buffer.of(0, 0, 0, 0, 3));
  await nextTurn();
  reset.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  await new Promise((resolve) => reset.on('close', resolve));
  const left = open();
  left.on('error', () => {});
  left.write(Buffer.of(0, 0, 0, 0, 0));
  await new Promise((resolve) => left.on('response', resolve));
  session.goaway(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
  session.destroy();
  expect((await fetch(server.url)).status).toBe(404);
});

it('answers 408 to headers, and to a body, that do not arrive', async () => {
  const server = await start({ headersTimeoutMs: 50, requestTimeoutMs: 100 });
  const headers = await dial(server.port);
  headers.write('POST / HTTP/1.1\r\nHost: localhost\r\n');
  expect(await text(headers)).toMatch(/^HTTP\/1\.1 408 /);
  const body = await dial(server.port);
  body.write(
    'POST /probe.v1.ProbeService/Echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
  );
  expect(await text(body)).toMatch(/^HTTP\/1\.1 408 |^$/);
});

it('cuts an HTTP/2 request whose body does not arrive, and leaves a stream that is quiet alone', async () => {
  const server = await start({ requestTimeoutMs: 100 });
  const { session } = await dialHttp2(server.port);
  const open = (method: string, type: string) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': `/probe.v1.ProbeService/${method}`,
      ':authority': '127.0.0.1',
      'content-type': type,
    });
    stream.on('error', () => {});
    return stream;
  };
  const quiet = open('Chat', 'application/grpc');
  const unary = open('Echo', 'application/json');
  unary.write('{');
  await new Promise((resolve) => unary.on('close', resolve));
  expect(unary.rstCode).toBe(http2.constants.NGHTTP2_CANCEL);
  quiet.write(Buffer.of(0, 0, 0, 0, 0));
  const [headers] = await once(quiet, 'response');
  expect(headers[':status']).toBe(200);
  quiet.close();
});

it('drops an HTTP/2 peer that no longer answers, and keeps one that is only quiet', async () => {
  const server = await start({ pingIntervalMs: 40, pingTimeoutMs: 60 });
  const alive = await dialHttp2(server.port);
  let pings = 0;
  const pingedOften = new Promise<void>((resolve) => {
    alive.session.on('ping', () => ++pings === 5 && resolve());
  });
  // A stopped process behaves so: the socket stands, and nothing reads it.
  const stopped = await dial(server.port);
  stopped.write(
    Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]),
  );
  await once(stopped.resume(), 'close');
  await pingedOften;
  expect(alive.session.destroyed).toBe(false);
});

describe('slow clients are closed while others are served', () => {
  const preface = Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
  ]);
  // A HEADERS frame of 16 000 bytes with one literal field (HPACK: a name of 6 bytes, a value of 15 000), of which one byte comes at a time.
  const field = Buffer.concat([Buffer.from([0x40, 6]), Buffer.from('x-long'), Buffer.from([0x7f, 0x99, 0x74])]);
  const headers = Buffer.concat([Buffer.from([0, 0x3e, 0x80, 1, 4, 0, 0, 0, 1]), field, Buffer.alloc(15_000, 'x')]);
  const long = 'x'.repeat(10_000);
  it.each([
    ['headers of HTTP/1', Buffer.alloc(0), Buffer.from(`POST / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${long}`)],
    [
      'a body of HTTP/1',
      Buffer.from(
        'POST /probe.v1.ProbeService/Echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n',
      ),
      Buffer.from(long),
    ],
    ['the preface of HTTP/2', Buffer.from('PRI'), Buffer.concat([preface.subarray(3), headers])],
    ['headers of HTTP/2', preface, headers],
  ])('%s', async (_, first, rest) => {
    const server = await start({
      headersTimeoutMs: 150,
      requestTimeoutMs: 300,
      pingIntervalMs: 150,
      pingTimeoutMs: 150,
    });
    const slow = await dial(server.port);
    slow.on('error', () => {});
    // It may be closed by a reset, which `once` would throw.
    const closed = new Promise((resolve) => slow.resume().once('close', resolve));
    slow.write(first);
    let sent = 0;
    const dripping = setInterval(() => slow.writable && slow.write(rest.subarray(sent, ++sent)), 15);
    onTestFinished(() => clearInterval(dripping));
    const other = await dialHttp2(server.port);
    await closed;
    expect(sent).toBeLessThan(rest.length);
    expect((await fetch(server.url)).status).toBe(404);
    expect(other.session.destroyed).toBe(false);
  });
});

it('keeps an idle HTTP/1 connection for the next call', async () => {
  const server = await start();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const ports = new Set();
  for (let n = 0; n < 3; n++) {
    const sent = http.get({ port: server.port, host: '127.0.0.1', path: '/', agent });
    const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
    ports.add(response.socket.localPort);
    await text(response);
    await nextTurn();
  }
  expect(ports.size).toBe(1);
});
