import { health } from '@baton/contract/grpc';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { expect, it, onTestFinished } from 'vitest';
import { createHealth, type HealthSource, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = health.HealthCheckResponse_ServingStatus;

async function start(source?: HealthSource) {
  const server = await serve({ port: 0, services: [ProbeService], routes: () => {}, health: source });
  onTestFinished(() => server.close({ graceMs: 0 }));
  const sessionManager = new Http2SessionManager(server.url);
  onTestFinished(() => sessionManager.abort());
  const transport = createGrpcTransport({ baseUrl: server.url, sessionManager });
  return { server, client: createClient(health.Health, transport) };
}

/** A watch, read one status at a time. */
function watch(client: Awaited<ReturnType<typeof start>>['client'], service: string, signal?: AbortSignal) {
  const statuses = client.watch({ service }, { signal })[Symbol.asyncIterator]();
  return async () => {
    const next = await statuses.next();
    return next.done ? undefined : next.value.status;
  };
}

it('checks and lists the server and each of its services', async () => {
  const source = createHealth([ProbeService, 'other.v1.Service']);
  const { client } = await start(source);
  source.set(ProbeService, 'NOT_SERVING');
  source.set('late.v1.Service', 'SERVING');
  expect((await client.check({})).status).toBe(SERVING);
  expect((await client.check({ service: ProbeService.typeName })).status).toBe(NOT_SERVING);
  await expect(client.check({ service: 'nobody' })).rejects.toMatchObject({ code: Code.NotFound });
  const { statuses } = await client.list({});
  expect(Object.entries(statuses).map(([name, { status }]) => [name, status])).toEqual(
    expect.arrayContaining([
      ['', SERVING],
      [ProbeService.typeName, NOT_SERVING],
      ['other.v1.Service', SERVING],
      ['late.v1.Service', SERVING],
    ]),
  );
});

it('tells a watch each change once, and of a service that is not there yet', async () => {
  const source = createHealth([ProbeService]);
  const { client } = await start(source);
  const known = watch(client, ProbeService.typeName);
  const later = watch(client, 'late.v1.Service');
  expect(await known()).toBe(SERVING);
  expect(await later()).toBe(SERVICE_UNKNOWN);
  source.set('late.v1.Service', 'SERVING');
  expect(await later()).toBe(SERVING);
  source.set(ProbeService, 'SERVING');
  source.set(ProbeService, 'NOT_SERVING');
  expect(await known()).toBe(NOT_SERVING);
});

it('forgets a watch whose client has left', async () => {
  const left = Promise.withResolvers<void>();
  const source = createHealth([]);
  const { client } = await start({
    ...source,
    subscribe(onChange) {
      const unsubscribe = source.subscribe(onChange);
      return () => {
        unsubscribe();
        left.resolve();
      };
    },
  });
  const leave = new AbortController();
  expect(await watch(client, '', leave.signal)()).toBe(SERVING);
  leave.abort();
  await left.promise;
});

it('is not serving once the server closes, whatever the source says, and ends its watches', async () => {
  const { server, client } = await start({ check: () => 'SERVING', subscribe: () => () => {} });
  const next = watch(client, '');
  expect(await next()).toBe(SERVING);
  const closed = server.close({ graceMs: 60_000 });
  expect(await next()).toBe(NOT_SERVING);
  expect(await next().catch((error: unknown) => ConnectError.from(error).code)).toBe(Code.Unavailable);
  await closed;
});

it('answers from a source of the server’s own', async () => {
  const { client } = await start({
    check: (service) => (service === 'a' ? 'NOT_SERVING' : service === '' ? 'SERVING' : 'SERVICE_UNKNOWN'),
    subscribe: () => () => {},
  });
  expect((await client.check({ service: 'a' })).status).toBe(NOT_SERVING);
  await expect(client.check({ service: 'b' })).rejects.toMatchObject({ code: Code.NotFound });
  expect(Object.keys((await client.list({})).statuses)).toEqual(expect.arrayContaining(['', ProbeService.typeName]));
});
