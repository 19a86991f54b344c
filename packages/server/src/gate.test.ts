import { request } from 'node:http';
import { connect } from 'node:http2';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { InvalidOriginError, type RunningServer, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

const page = 'http://localhost:5173';
let server: RunningServer;

beforeAll(async () => {
  server = await serve({
    port: 0,
    services: [ProbeService],
    routes: (router) => router.service(ProbeService, { echo: (message) => message }),
    corsOrigins: [page],
    allowedHosts: ['baton.example'],
    fetch: () => new Response('page'),
  });
});
afterAll(() => server.close({ graceMs: 0 }));

const echo = '/probe.v1.ProbeService/Echo';

/** Node's plain client: fetch would not let Host and Origin be chosen. */
function send(method: string, path: string, headers: Record<string, string> = {}) {
  return new Promise<{ status: number; headers: Record<string, unknown>; body: string }>((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port: server.port,
        method,
        path,
        headers: { 'content-type': 'application/json', ...headers },
      },
      (response) => {
        let body = '';
        response.on('data', (chunk) => {
          body += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
      },
    );
    sent.on('error', reject);
    sent.end(method === 'POST' ? '{"text":"x"}' : undefined);
  });
}

describe('origins', () => {
  it('takes calls without Origin, as curl and SDKs make them', async () => {
    expect((await send('POST', echo)).status).toBe(200);
  });

  it('takes calls of its own pages', async () => {
    expect((await send('POST', echo, { origin: server.url })).status).toBe(200);
    const viaName = `localhost:${server.port}`;
    expect((await send('POST', echo, { host: viaName, origin: `http://${viaName}` })).status).toBe(200);
  });

  it.each([
    'http://evil.example',
    'null',
    'http://localhost:5174',
    'https://localhost:5173',
    'http://localhost:5173.evil.example',
    'http://127.0.0.1',
  ])('refuses a POST from %s, to RPCs and to everything else', async (origin) => {
    for (const path of [echo, '/anything']) {
      const refused = await send('POST', path, { origin });
      expect(refused.status).toBe(403);
      expect(JSON.parse(refused.body)).toMatchObject({
        code: 'permission_denied',
        message: expect.stringContaining(origin),
        details: [expect.objectContaining({ debug: { reason: 'FOREIGN_ORIGIN', domain: 'baton' } })],
      });
      expect(refused.headers).not.toHaveProperty('access-control-allow-origin');
    }
  });

  it('lets a foreign page have a GET, whose answer it cannot read', async () => {
    const read = await send('GET', '/', { origin: 'http://evil.example' });
    expect(read.status).toBe(200);
    expect(read.headers).not.toHaveProperty('access-control-allow-origin');
  });

  it('lets an allowed page call and read what the protocols answer with', async () => {
    const allowed = await send('POST', echo, { origin: page });
    expect(allowed.status).toBe(200);
    expect(allowed.headers).toMatchObject({ 'access-control-allow-origin': page, vary: 'Origin' });
    expect(allowed.headers['access-control-expose-headers']).toMatch(/grpc-status, .*grpc-message/i);
    expect((await send('GET', '/', { origin: page })).headers).toMatchObject({ 'access-control-allow-origin': page });
  });

  it('answers the preflight of an allowed page, and only of such', async () => {
    const asked = {
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type,connect-protocol-version,x-grpc-web',
      'access-control-request-private-network': 'true',
    };
    const allowed = await send('OPTIONS', echo, { ...asked, origin: page });
    expect(allowed.status).toBe(204);
    expect(allowed.headers).toMatchObject({
      'access-control-allow-origin': page,
      'access-control-allow-methods': 'POST, GET',
      'access-control-allow-private-network': 'true',
    });
    const headers = String(allowed.headers['access-control-allow-headers']).toLowerCase().split(', ');
    expect(headers).toEqual(
      expect.arrayContaining([
        'content-type',
        'connect-protocol-version',
        'connect-timeout-ms',
        'x-grpc-web',
        'authorization',
      ]),
    );
    const foreign = await send('OPTIONS', echo, { ...asked, origin: 'http://evil.example' });
    expect(foreign.status).toBe(403);
    expect(foreign.headers).not.toHaveProperty('access-control-allow-origin');
  });

  it.each(['*', 'null', 'localhost:5173', 'http://localhost:5173/', 'http://LOCALHOST:5173'])(
    'does not start with "%s" as an allowed origin',
    async (origin) => {
      const start = serve({ port: 0, services: [], routes: () => {}, corsOrigins: [origin] });
      await expect(start).rejects.toThrow(InvalidOriginError);
    },
  );
});

describe('hosts', () => {
  it.each([
    'localhost',
    'LOCALHOST:7800',
    '127.0.0.1',
    '127.9.9.9:1',
    '[::1]:7800',
    'x.localhost',
    'baton.example:443',
  ])('answers for %s', async (host) => {
    expect((await send('POST', echo, { host })).status).toBe(200);
  });

  it.each([
    'evil.example',
    'localhost.evil.example:7800',
    '192.168.1.5',
    '127.0.0.1.evil.example',
    '127.0.0.999',
    'localhost:99999',
    'localhost:',
    'user@localhost',
    'localhost/..',
  ])('does not answer for %s, which may be a name bent to this address', async (host) => {
    for (const path of [echo, '/']) {
      const refused = await send('POST', path, { host });
      expect(refused.status).toBe(403);
      expect(JSON.parse(refused.body).message).toContain(host);
    }
  });

  it('checks the authority of HTTP/2 likewise', async () => {
    const session = connect(server.url);
    onTestFinished(() => session.destroy());
    const statusFor = (headers: Record<string, string>) =>
      new Promise((resolve, reject) => {
        const stream = session.request({
          ':method': 'POST',
          ':path': echo,
          'content-type': 'application/json',
          ...headers,
        });
        stream.on('response', (answer) => resolve(answer[':status']));
        stream.on('error', reject);
        stream.end('{}');
      });
    expect(await statusFor({ ':authority': 'localhost:1' })).toBe(200);
    expect(await statusFor({ ':authority': 'evil.example' })).toBe(403);
    expect(await statusFor({ ':authority': '127.0.0.1', origin: 'http://evil.example' })).toBe(403);
  });

  it('refuses a request that names no host at all', async () => {
    const socket = net.connect(server.port, '127.0.0.1');
    socket.write('GET / HTTP/1.0\r\n\r\n');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
  });
});
