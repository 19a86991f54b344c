import { once } from 'node:events';
import * as http2 from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import postgres from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { testDatabase } from './database.ts';
import { type FaultProxy, type FaultProxyOptions, startFaultProxy } from './fault-proxy.ts';

async function listen(server: Server | http2.Http2Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function proxyTo(options: FaultProxyOptions): Promise<FaultProxy> {
  const proxy = await startFaultProxy(options);
  onTestFinished(() => proxy.close());
  return proxy;
}

/** A server that says everything back, and counts the bytes that it got. */
async function echo() {
  const got = { bytes: 0, ended: 0 };
  const sockets: Socket[] = [];
  const port = await listen(
    createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => got.ended++);
      socket.on('end', () => got.ended++);
      socket.on('data', (bytes) => {
        got.bytes += bytes.length;
        socket.write(bytes);
      });
    }),
  );
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  const proxy = await proxyTo({ target: { port }, protocol: 'bytes' });
  const dial = () => {
    const socket = connect(proxy.port, '127.0.0.1').on('error', () => {});
    onTestFinished(() => void socket.destroy());
    return socket;
  };
  return { got, proxy, dial, sockets };
}

async function says(socket: Socket, word: string): Promise<string> {
  socket.write(word);
  const [answer] = await once(socket, 'data');
  return String(answer);
}

test('a paused connection delivers everything, later', async () => {
  const { got, proxy, dial } = await echo();
  const socket = dial();
  expect(await says(socket, 'one')).toBe('one');
  proxy.pause();
  socket.write('two');
  const late = dial();
  late.write('three');
  await once(late, 'connect');
  // Another connection to the same server, past the proxy's: time for the bytes to have come if they could.
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(got.bytes).toBe(3);
  const answers = [once(socket, 'data'), once(late, 'data')];
  proxy.heal();
  expect((await Promise.all(answers)).map(String)).toEqual(['two', 'three']);
});

test('a black hole swallows what travels, and neither side hears of the end of the other', async () => {
  const { got, proxy, dial } = await echo();
  const socket = dial();
  await says(socket, 'one');
  proxy.blackHole();
  socket.end('two');
  const fresh = dial();
  expect(await says(fresh, 'three')).toBe('three');
  expect(got).toEqual({ bytes: 8, ended: 0 });

  proxy.blackHole({ newToo: true });
  const lost = dial();
  lost.write('four');
  await once(lost, 'connect');
  proxy.heal();
  expect(await says(dial(), 'five')).toBe('five');
  expect(got).toEqual({ bytes: 12, ended: 0 });
});

test('reset is seen by both sides; refuse cuts new connections only', async () => {
  const { got, proxy, dial } = await echo();
  const socket = dial();
  await says(socket, 'one');
  proxy.refuse();
  const [refused] = await once(dial(), 'error');
  expect(refused.code).toBe('ECONNRESET');
  expect(await says(socket, 'two')).toBe('two');
  proxy.heal();
  expect(await says(dial(), 'three')).toBe('three');
  const error = once(socket, 'error');
  expect(proxy.reset()).toBe(2);
  expect((await error)[0].code).toBe('ECONNRESET');
  await expect.poll(() => got.ended).toBe(2);
  expect(proxy.open).toBe(0);
  expect(proxy.accepted).toBe(2);
});

test('a server that comes back elsewhere is found again', async () => {
  const first = await echo();
  const second = await echo();
  let port = first.proxy.port;
  const proxy = await proxyTo({ target: () => ({ port }), protocol: 'bytes' });
  const dial = () => connect(proxy.port, '127.0.0.1').on('error', () => {});
  expect(await says(dial(), 'one')).toBe('one');
  port = second.proxy.port;
  expect(await says(dial(), 'two')).toBe('two');
  expect([first.got.bytes, second.got.bytes]).toEqual([3, 3]);
});

test('the answer of one HTTP/2 call is lost after the server has done it; smaller calls on other connections go on', async () => {
  const done: string[] = [];
  const server = http2.createServer();
  server.on('stream', async (stream) => {
    stream.on('error', () => {});
    const body = await text(stream);
    done.push(body.slice(0, 5));
    stream.respond({ ':status': 200 });
    stream.end(body);
  });
  const proxy = await proxyTo({ target: { port: await listen(server) } });
  const call = async (client: http2.ClientHttp2Session, body: string) => {
    const stream = client.request({ ':method': 'POST', ':path': '/' });
    stream.end(body);
    return text(stream);
  };
  const [one, two] = [http2.connect(proxy.url), http2.connect(proxy.url)];
  for (const client of [one, two]) {
    client.on('error', () => {});
    onTestFinished(() => client.destroy());
  }
  expect(await call(one, 'begin')).toBe('begin');
  const lost = proxy.loseAnswer({ requestBytes: 30_000, answerBytes: 10_000 });
  expect(await call(two, 'small')).toBe('small');
  const failed = call(one, 'large'.padEnd(40_000, '.')).then(
    () => 'answered',
    () => 'failed',
  );
  await lost;
  expect(await failed).toBe('failed');
  expect(done).toEqual(['begin', 'small', 'large']);
  await expect.poll(() => one.destroyed).toBe(true);
  expect(await call(two, 'after'.padEnd(40_000, '.'))).toHaveLength(40_000);
});

test('the answer to a statement is lost after Postgres has committed it', async () => {
  await using database = await testDatabase();
  const url = new URL(database.url);
  const proxy = await proxyTo({ target: { port: Number(url.port) }, protocol: 'postgres' });
  url.port = String(proxy.port);
  url.hostname = '127.0.0.1';
  const sql = postgres(url.href, { max: 1, fetch_types: false });
  try {
    await sql`create table kept (word text)`;
    const lost = proxy.loseAnswer({ requestBytes: 10_000 });
    await sql`insert into kept values ('short')`;
    const word = 'x'.repeat(10_000);
    const failed = await sql`insert into kept values (${word})`.catch((error: { code: string }) => error.code);
    await lost;
    expect(failed).toMatch(/ECONNRESET|CONNECTION_CLOSED/);
    expect(await sql`select length(word) from kept order by 1`).toEqual([{ length: 5 }, { length: 10_000 }]);
  } finally {
    await sql.end({ timeout: 1 });
  }
});

test('a slow network delivers everything late and in order, and is well again after heal', async () => {
  const { got, proxy, dial } = await echo();
  const socket = dial();
  await says(socket, 'one');
  proxy.slow(100);
  const before = performance.now();
  socket.write('two');
  proxy.slow(30);
  socket.write('three');
  socket.end();
  expect(await text(socket)).toBe('twothree');
  // 100 ms there at least for the first, 30 ms back.
  expect(performance.now() - before).toBeGreaterThanOrEqual(59);
  await expect.poll(() => got.ended).toBe(1);
  proxy.heal();
  const after = performance.now();
  expect(await says(dial(), 'four')).toBe('four');
  expect(performance.now() - after).toBeLessThan(59);
});
