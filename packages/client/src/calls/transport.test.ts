import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { createBaton } from '../baton.ts';

const retry = { attempts: 1 };

test('a server that is not there is unavailable, with the reason in the message', async () => {
  const listener = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const { port } = listener.address() as { port: number };
  await new Promise((resolve) => listener.close(resolve));
  const baton = createBaton({ url: `http://127.0.0.1:${port}/`, retry });
  await expect(baton.system.info()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining(`ECONNREFUSED 127.0.0.1:${port}`),
  });
});

test('requests are Connect in binary, below the given url', async () => {
  const requests: Request[] = [];
  const baton = createBaton({
    url: 'http://127.0.0.1:7800/',
    fetch: async (input, init) => {
      requests.push(new Request(input, init));
      return new Response(null, { headers: { 'content-type': 'application/proto' } });
    },
  });
  await baton.system.info();
  expect(requests[0]?.url).toBe('http://127.0.0.1:7800/baton.v1.SystemService/GetInfo');
  expect(requests[0]?.headers.get('content-type')).toBe('application/proto');
});

test('a redirect is no answer', async () => {
  const redirect = new Response(null, { status: 302, headers: { location: 'http://127.0.0.1:1/' } });
  const baton = createBaton({ fetch: async () => redirect, retry });
  await expect(baton.system.info()).rejects.toMatchObject({ name: 'BatonError' });
});

test('the time of a request is limited', async () => {
  const never: typeof fetch = (_, init) =>
    new Promise((_resolve, reject) => init?.signal?.addEventListener('abort', () => reject(init.signal?.reason)));
  const baton = createBaton({ fetch: never, timeoutMs: 20, retry });
  await expect(baton.system.info()).rejects.toMatchObject({ code: 'deadline_exceeded' });
  await expect(baton.submit({ kind: 'k' })).rejects.toMatchObject({ code: 'deadline_exceeded' });
});
