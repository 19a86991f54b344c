import { once } from 'node:events';
import { type ClientHttp2Session, createServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { MasterService } from '@baton/contract';
import { ConnectError, createClient } from '@connectrpc/connect';
import { connectNodeAdapter, createGrpcTransport } from '@connectrpc/connect-node';
import { expect, onTestFinished, test } from 'vitest';
import { guardedManager } from './guarded-manager.ts';

async function openServer(pingIntervalMs = Number.POSITIVE_INFINITY) {
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
  const manager = guardedManager(url, { idleConnectionTimeoutMs: 60_000, pingIntervalMs });
  onTestFinished(() => manager.abort());
  const client = createClient(MasterService, createGrpcTransport({ baseUrl: url, sessionManager: manager }));
  const leave = async () => (await client.leave({ sessionId: '1' }, { timeoutMs: 2_000 })).returned;
  return { sessions, manager, leave };
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

test('a connection that ends while a ping asks for it, and calls that come meanwhile: one new connection serves them all', async () => {
  const { sessions, manager, leave } = await openServer(1);
  for (let round = 0; round < 10; round++) {
    expect(await leave()).toBe(3);
    await expect.poll(() => manager.state()).toBe('idle');
    const { conn } = (manager as unknown as { s: { conn: ClientHttp2Session } }).s;
    // Its time for a ping has come, and the server ends it before it answers: who hears of the end first calls at once.
    await new Promise((resolve) => setTimeout(resolve, 5));
    const eager = once(conn, 'close').then(leave);
    let atOnce: Promise<number> | undefined;
    conn.prependListener('close', () => {
      atOnce = leave();
      atOnce.catch(() => {});
    });
    const pinging = leave();
    for (const session of sessions) session.destroy();
    for (const each of await Promise.allSettled([pinging, eager]))
      if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(ConnectError);
    await atOnce?.catch(() => {});
    expect(await leave()).toBe(3);
    await expect.poll(() => sessions.filter((session) => !session.destroyed).length).toBe(1);
  }
});
