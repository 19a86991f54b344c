import { BlobService, MasterService } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test, vi } from 'vitest';
import { inOrderOf, Rotation, type Way } from './rotation.ts';

/** For vi.waitFor, which gives up after a second. */
const soon = { timeout: 20_000 };

/** A master that answers with its name, or fails as it is told to. */
function fakeMaster(url: string) {
  const fake = {
    url,
    cuts: 0,
    calls: 0,
    error: undefined as ConnectError | undefined,
    /** Calls are answered when this is. */
    pause: undefined as Promise<unknown> | undefined,
  };
  const answer = async () => {
    fake.calls++;
    await fake.pause;
    if (fake.error) {
      throw fake.error;
    }
  };
  const transport = createRouterTransport(({ service }) => {
    service(MasterService, {
      registerWorker: async () => {
        await answer();
        return { masterId: url };
      },
    });
    service(BlobService, {
      async *readBlob() {
        yield { data: new Uint8Array(1) };
        await answer();
      },
    });
  });
  const way: Way = { url, transport, cut: () => void fake.cuts++ };
  return Object.assign(fake, { way });
}

function three() {
  const masters = ['http://a:1', 'http://b:1', 'http://c:1'].map(fakeMaster);
  const moves: string[] = [];
  const rotation = new Rotation(
    masters.map(({ way }) => way),
    (url, from) => moves.push(`${from} ${url}`),
  );
  const client = createClient(MasterService, rotation);
  return { masters, moves, rotation, client, blobs: createClient(BlobService, rotation) };
}

function refusal(code: Code, reason: string): ConnectError {
  return new ConnectError('no', code, undefined, [
    { desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } },
  ]);
}

const code = (error: unknown) => ConnectError.from(error).code;

test.each([
  ['cannot be reached', new ConnectError('away', Code.Unavailable)],
  ['left a call without an answer', new ConnectError('late', Code.DeadlineExceeded)],
  ['failed within', new ConnectError('broken', Code.Internal)],
  ['is of a version that knows no such call', new ConnectError('what?', Code.Unimplemented)],
  ['has no way to Postgres', refusal(Code.Unavailable, 'STORE_UNAVAILABLE')],
  ['gets too few answers of Postgres', refusal(Code.ResourceExhausted, 'OVERLOADED')],
])('a master that %s is left, and the call is not made twice', async (_, error) => {
  const { masters, moves, rotation, client } = three();
  masters[0]!.error = error;
  expect(await client.registerWorker({}).catch(code)).toBe(error.code);
  expect(masters.map(({ calls }) => calls)).toEqual([1, 0, 0]);
  expect(rotation.url).toBe('http://b:1');
  expect((await client.registerWorker({})).masterId).toBe('http://b:1');
  // It stays there, also when the first is well again.
  masters[0]!.error = undefined;
  expect((await client.registerWorker({})).masterId).toBe('http://b:1');
  expect(moves).toEqual(['http://a:1 http://b:1']);
});

test.each([
  refusal(Code.FailedPrecondition, 'SESSION_LOST'),
  refusal(Code.InvalidArgument, 'INVALID_REQUEST'),
  refusal(Code.ResourceExhausted, 'BLOB_TOO_LARGE'),
  refusal(Code.NotFound, 'CHECKPOINT_NOT_FOUND'),
])('a master that says no is not left: %s', async (error) => {
  const { masters, moves, client } = three();
  masters[0]!.error = error;
  await expect(client.registerWorker({})).rejects.toThrow('no');
  expect(moves).toEqual([]);
});

test('after the last master comes the first', async () => {
  const { masters, moves, client } = three();
  for (const master of masters) {
    master.error = new ConnectError('away', Code.Unavailable);
    await client.registerWorker({}).catch(code);
  }
  expect(moves.at(-1)).toBe('http://c:1 http://a:1');
});

test('calls that fail one after the other at the same master leave it once', async () => {
  const { masters, rotation, client } = three();
  masters[0]!.error = new ConnectError('away', Code.Unavailable);
  const gate = Promise.withResolvers<void>();
  masters[0]!.pause = gate.promise;
  const failing = [client.registerWorker({}), client.registerWorker({})].map((call) => call.catch(code));
  gate.resolve();
  expect(await Promise.all(failing)).toEqual([Code.Unavailable, Code.Unavailable]);
  expect(rotation.url).toBe('http://b:1');
});

test('a call that whoever made it has ended says nothing about the master', async () => {
  const { masters, moves, client } = three();
  masters[0]!.pause = new Promise(() => {});
  const abort = new AbortController();
  const call = client.registerWorker({}, { signal: abort.signal }).catch(code);
  await vi.waitFor(() => expect(masters[0]!.calls).toBe(1), soon);
  abort.abort();
  expect(await call).toBe(Code.Canceled);
  expect(moves).toEqual([]);
});

test('a call under way at a master that is left goes on, and its answer is heard', async () => {
  const { masters, rotation, client } = three();
  const gate = Promise.withResolvers<void>();
  masters[0]!.pause = gate.promise;
  const call = client.registerWorker({});
  await vi.waitFor(() => expect(masters[0]!.calls).toBe(1), soon);
  expect(rotation.leave('http://a:1')).toBe(true);
  expect(rotation.leave('http://a:1')).toBe(false);
  gate.resolve();
  expect((await call).masterId).toBe('http://a:1');
  expect(masters.map(({ cuts }) => cuts)).toEqual([0, 0, 0]);
});

test('only connections on which a call had no answer, and none since, are cut', async () => {
  const { masters, rotation, client } = three();
  for (const master of masters.slice(0, 2)) {
    master.error = new ConnectError('late', Code.DeadlineExceeded);
    await client.registerWorker({}).catch(code);
  }
  masters[2]!.error = new ConnectError('away', Code.Unavailable);
  await client.registerWorker({}).catch(code);
  // Round again: the first answers now.
  masters[0]!.error = undefined;
  await client.registerWorker({});
  rotation.cutSilent();
  expect(masters.map(({ cuts }) => cuts)).toEqual([0, 1, 0]);
  rotation.cutSilent();
  expect(masters.map(({ cuts }) => cuts)).toEqual([0, 1, 0]);
});

test('a stream that breaks while it is read leaves the master', async () => {
  const { masters, rotation, blobs } = three();
  masters[0]!.error = new ConnectError('cut', Code.Unavailable);
  const read = async () => {
    let bytes = 0;
    for await (const { data } of blobs.readBlob({})) {
      bytes += data.length;
    }
    return bytes;
  };
  expect(await read().catch(code)).toBe(Code.Unavailable);
  expect(rotation.url).toBe('http://b:1');
  expect(await read()).toBe(1);
});

test('the only master is never left', async () => {
  const master = fakeMaster('http://a:1');
  master.error = new ConnectError('away', Code.Unavailable);
  const rotation = new Rotation([master.way]);
  const client = createClient(MasterService, rotation);
  await client.registerWorker({}).catch(code);
  expect(rotation.leave('http://a:1')).toBe(false);
  expect(rotation.url).toBe('http://a:1');
});

test('each worker has its own order of the masters, the same each time; all of them spread over all', () => {
  const urls = ['http://127.0.0.1:7800', 'http://127.0.0.1:7801', 'http://127.0.0.1:7802'];
  expect(inOrderOf('w1', [...urls, urls[0]!])).toEqual(inOrderOf('w1', urls.toReversed()));
  const orders = new Map<string, number>();
  for (let i = 0; i < 600; i++) {
    const order = inOrderOf(`worker-${i}`, urls);
    expect([...order].sort()).toEqual(urls);
    orders.set(order.join(), (orders.get(order.join()) ?? 0) + 1);
  }
  // Of six orders each about a hundred times.
  expect(orders.size).toBe(6);
  expect(Math.min(...orders.values())).toBeGreaterThan(50);
});
