import { once } from 'node:events';
import { createServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { MasterService } from '@baton/contract';
import { ConnectError, createClient } from '@connectrpc/connect';
import { connectNodeAdapter, createGrpcTransport } from '@connectrpc/connect-node';
import { expect, onTestFinished, test } from 'vitest';
import { guardedManager } from './guarded-manager.ts';

async function openServer() {
  const sessions: ServerHttp2Session[] = [];
  const server = createServer(
    connectNodeAdapter({
      routes: (router) => void router.service(MasterService, { leave: () => ({ returned: 3 }) }),
    }),
  );
  server.on('session', (session) => {
    session.on('error', () => {});
    sessions.push(session);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const manager = guardedManager(url, { idleConnectionTimeoutMs: 60_000 });
  onTestFinished(() => manager.abort());
  const client = createClient(MasterService, createGrpcTransport({ baseUrl: url, sessionManager: manager }));
  return { sessions, leave: async () => (await client.leave({ sessionId: '1' })).returned };
}

// An uncaught exception, in whatever turn it comes, fails the run.
test.each([
  ['GOAWAY', (session: ServerHttp2Session) => session.goaway()],
  ['GOAWAY and the end of the connection', (session: ServerHttp2Session) => session.close()],
  [
    'GOAWAY with an error, then a reset',
    (session: ServerHttp2Session) => {
      session.goaway(11);
      session.destroy();
    },
  ],
  ['a reset without a word', (session: ServerHttp2Session) => session.destroy()],
])('%s on an idle connection, then calls: each is answered on a new one', async (_, end) => {
  const { sessions, leave } = await openServer();
  expect(await leave()).toBe(3);
  for (let round = 1; round <= 5; round++) {
    end(sessions.at(-1)!);
    // In all moments: before the word arrives, while it is read, after.
    for (let turn = 0; turn < round; turn++) await new Promise((resolve) => setImmediate(resolve));
    const answers = await Promise.allSettled([leave(), leave(), leave()]);
    // A call that was on its way may be refused, in words; none hangs. The worker repeats it whatever its code is.
    for (const each of answers) if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(ConnectError);
    expect(await leave()).toBe(3);
  }
  expect(sessions.length).toBeGreaterThan(1);
});
