import { gunzipSync, gzipSync } from 'node:zlib';
import { EventService, SubmitTaskRequestSchema, SubmitTaskResponseSchema, WatchResponseSchema } from '@baton/contract';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { createBaton } from '../baton.ts';
import { createFetchTransport } from './transport.ts';

const FAR = 'http://baton.example:7800';
const answered = toBinary(
  SubmitTaskResponseSchema,
  create(SubmitTaskResponseSchema, { taskId: '7' }),
) as Uint8Array<ArrayBuffer>;
const unary = (body: BodyInit | null, headers: Record<string, string> = {}) =>
  new Response(body, { headers: { 'content-type': 'application/proto', ...headers } });

/** A fetch that is told what to answer, and keeps what it was asked. */
function fakeFetch(...answers: (() => Response)[]) {
  const asked: { headers: Headers; body: Uint8Array }[] = [];
  const fetch: typeof globalThis.fetch = async (_, init) => {
    asked.push({ headers: new Headers(init?.headers), body: init?.body as Uint8Array });
    return (answers.length > 1 ? answers.shift()! : answers[0]!)();
  };
  return { fetch, asked };
}

function frame(flags: number, data: Uint8Array, length = data.length): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(5 + data.length);
  out[0] = flags;
  new DataView(out.buffer).setUint32(1, length);
  out.set(data, 5);
  return out;
}
const end = frame(2, new TextEncoder().encode('{}'));
const stream = (...chunks: Uint8Array[]) =>
  new Response(new Blob(chunks as Uint8Array<ArrayBuffer>[]), {
    headers: { 'content-type': 'application/connect+proto' },
  });

const large = { kind: 'k', input: 'words '.repeat(1_000) };

test('requests to a server elsewhere are compressed from 1 KiB on', async () => {
  const { fetch, asked } = fakeFetch(() => unary(answered));
  const baton = createBaton({ url: FAR, fetch });
  await baton.submit(large);
  await baton.submit({ kind: 'k' });
  expect(asked[0]!.headers.get('content-encoding')).toBe('gzip');
  expect(asked[0]!.body.length).toBeLessThan(500);
  expect(fromBinary(SubmitTaskRequestSchema, gunzipSync(asked[0]!.body)).task?.kind).toBe('k');
  expect(asked[1]!.headers.has('content-encoding')).toBe(false);
});

test.each(['http://127.0.0.1:7800', 'http://localhost:7800', 'http://[::1]:7800'])(
  'nothing is compressed on this machine: %s',
  async (url) => {
    const { fetch, asked } = fakeFetch(() => unary(answered));
    await createBaton({ url, fetch }).submit(large);
    expect(asked[0]!.headers.has('content-encoding')).toBe(false);
    expect(asked[0]!.headers.get('accept-encoding')).toBe('identity');
    await createBaton({ url, fetch, compression: 'gzip' }).submit(large);
    expect(asked[1]!.headers.get('content-encoding')).toBe('gzip');
    await createBaton({ url: FAR, fetch, compression: 'none' }).submit(large);
    expect(asked[2]!.headers.has('content-encoding')).toBe(false);
  },
);

test('a server that takes nothing compressed gets it plain, and nothing compressed any more', async () => {
  const { fetch, asked } = fakeFetch(
    () => new Response('{"code":"unimplemented"}', { status: 501, headers: { 'content-type': 'application/json' } }),
    () => unary(answered),
  );
  const baton = createBaton({ url: FAR, fetch });
  expect((await baton.submit(large)).id).toBe('7');
  expect((await baton.submit(large)).id).toBe('7');
  expect(asked.map(({ headers }) => headers.get('content-encoding'))).toEqual(['gzip', null, null]);
});

test('an answer is read up to a limit, whatever it says of its length', async () => {
  const big = new Uint8Array(3_000_000);
  for (const answer of [
    () => unary(big, { 'content-length': String(big.length) }),
    () => unary(big),
    () => unary(big, { 'content-length': '5', 'content-encoding': 'gzip' }),
  ]) {
    const { fetch } = fakeFetch(answer);
    const transport = createFetchTransport({ url: FAR, fetch, maxMessageBytes: 1_000_000 });
    await expect(createBaton({ transport }).submit({ kind: 'k' })).rejects.toMatchObject({
      code: 'resource_exhausted',
      message: expect.stringContaining('1000000 bytes'),
    });
  }
});

async function watch(response: () => Response) {
  const { fetch, asked } = fakeFetch(response);
  const client = createClient(EventService, createFetchTransport({ url: FAR, fetch, maxMessageBytes: 1_000_000 }));
  const cursors: string[] = [];
  for await (const { cursor } of client.watch({})) cursors.push(cursor);
  expect(asked[0]!.headers.get('connect-accept-encoding')).toBe('gzip');
  return cursors;
}

const batch = (cursor: string) => toBinary(WatchResponseSchema, create(WatchResponseSchema, { cursor }));

test('messages of streams are decompressed, wherever the network cuts them', async () => {
  const whole = Buffer.concat([
    frame(0, batch('plain')),
    frame(1, gzipSync(batch('c'.repeat(5_000)))),
    frame(0, new Uint8Array()),
    frame(1, new Uint8Array()),
    frame(1, gzipSync(batch('last'))),
    end,
  ]);
  for (const step of [1, 2, 3, 7, 1_000]) {
    const pieces = Array.from({ length: Math.ceil(whole.length / step) }, (_, i) =>
      whole.subarray(i * step, (i + 1) * step),
    );
    const cut = () =>
      new Response(
        new ReadableStream({
          start(controller) {
            for (const piece of pieces) controller.enqueue(new Uint8Array(piece));
            controller.close();
          },
        }),
        { headers: { 'content-type': 'application/connect+proto' } },
      );
    expect(await watch(cut)).toEqual(['plain', 'c'.repeat(5_000), '', '', 'last']);
  }
});

test('a message of a stream is refused by what it says, or becomes, not by what it brings', async () => {
  const member = gzipSync(Buffer.alloc(2 ** 20), { level: 9 });
  const bomb = Buffer.concat(Array.from({ length: 256 }, () => member));
  for (const bad of [frame(0, new Uint8Array(3), 0xffff_ffff), frame(1, bomb), frame(0, new Uint8Array(2_000_000))]) {
    await expect(watch(() => stream(frame(0, batch('fine')), bad, end))).rejects.toMatchObject({ code: 8 });
  }
});
