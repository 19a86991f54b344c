import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { GetInfoResponseSchema } from '@baton/contract';
import { create, toBinary } from '@bufbuild/protobuf';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createBaton } from '../baton.ts';

const info = toBinary(GetInfoResponseSchema, create(GetInfoResponseSchema, { version: '1.2.3' }));
const retry = { attempts: 1 };

async function listen(answer: (response: ServerResponse, call: number) => void) {
  const sockets = new Set<Socket>();
  let calls = 0;
  const server: Server = createServer((request, response) => {
    request.resume().on('end', () => answer(response, ++calls));
  });
  server.on('connection', (socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
}

const well = (response: ServerResponse) =>
  response.writeHead(200, { 'content-type': 'application/proto', 'content-length': info.length }).end(info);

test('calls one after another share a connection; calls at once do not wait for each other', async () => {
  const { url, sockets } = await listen(well);
  const baton = createBaton({ url, retry });
  for (let i = 0; i < 5; i++) expect(await baton.system.info()).toMatchObject({ version: '1.2.3' });
  expect(sockets.size).toBe(1);
  await Promise.all(Array.from({ length: 5 }, () => baton.system.info()));
  expect(sockets.size).toBe(5);
});

test('a connection that the server closed meanwhile is not used again', async () => {
  const { url, sockets } = await listen(well);
  const baton = createBaton({ url, retry });
  await baton.system.info();
  const [socket] = sockets;
  const closed = new Promise((resolve) => socket!.once('close', resolve));
  socket!.end();
  await closed;
  expect(await baton.system.info()).toMatchObject({ version: '1.2.3' });
  expect(sockets.size).toBe(2);
});

test('a connection that breaks before the answer makes the call unavailable, and the next one is well', async () => {
  const { url } = await listen((response, call) => (call === 1 ? response.destroy() : well(response)));
  const baton = createBaton({ url, retry });
  await expect(baton.system.info()).rejects.toMatchObject({ code: 'unavailable' });
  expect(await baton.system.info()).toMatchObject({ version: '1.2.3' });
});

test('a signal and a limit of time end a call and its connection', async () => {
  const { url, sockets } = await listen(() => {});
  const baton = createBaton({ url, retry });
  const abort = new AbortController();
  const call = baton.system.info({ signal: abort.signal });
  await vi.waitFor(() => expect(sockets.size).toBe(1));
  abort.abort();
  await expect(call).rejects.toMatchObject({ code: 'canceled' });
  await expect(baton.system.info({ timeoutMs: 20 })).rejects.toMatchObject({ code: 'deadline_exceeded' });
  await vi.waitFor(() => expect([...sockets].every((socket) => socket.destroyed)).toBe(true));
});

test('an error keeps its code and its words', async () => {
  const body = JSON.stringify({ code: 'not_found', message: 'no such thing' });
  const { url } = await listen((response) => response.writeHead(404, { 'content-type': 'application/json' }).end(body));
  await expect(createBaton({ url, retry }).system.info()).rejects.toMatchObject({
    code: 'not_found',
    message: 'no such thing',
  });
});

test('a fetch that somebody set is the one that is called', async () => {
  const { url, sockets } = await listen(well);
  const own = globalThis.fetch;
  onTestFinished(() => {
    globalThis.fetch = own;
  });
  const baton = createBaton({ url, retry });
  let calls = 0;
  globalThis.fetch = (input, init) => {
    calls++;
    return own(input, init);
  };
  await baton.system.info();
  expect([calls, sockets.size]).toEqual([1, 1]);
});
