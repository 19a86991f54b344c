import {
  type CallStreamRequest,
  type CallStreamResponseSchema,
  ExchangeRequestSchema,
  type ExchangeResponse,
  MasterService,
  TaskResultSchema,
} from '@baton/contract';
import { serve } from '@baton/server';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { afterEach, expect, test } from 'vitest';
import { CallStreamTransport } from './call-stream.ts';
import { grpcStreams } from './message-stream.ts';
import { reasonOf } from './refusal.ts';

type Response = MessageInitShape<typeof CallStreamResponseSchema>;
type Answering = (requests: AsyncIterable<CallStreamRequest>) => AsyncIterable<Response>;

const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

/** A master that answers a stream as it is told, and counts what comes as calls. */
async function master(answering: Answering | undefined, compresses = false) {
  const seen = { calls: 0, streams: 0, messages: [] as CallStreamRequest[] };
  const routes = (router: ConnectRouter) => {
    router.service(MasterService, {
      exchange: () => {
        seen.calls++;
        return {};
      },
      appendJournal: () => ({ answers: [] }),
      ...(answering && {
        async *callStream(requests) {
          seen.streams++;
          yield* answering(
            (async function* () {
              for await (const request of requests) {
                seen.messages.push(request);
                yield request;
              }
            })(),
          );
        },
      }),
    });
  };
  const server = await serve({ services: [MasterService], routes, port: 0 });
  const manager = new Http2SessionManager(server.url);
  opened.push(
    () => server.close({ graceMs: 0 }),
    () => manager.abort(),
  );
  const base = createGrpcTransport({ baseUrl: server.url, sessionManager: manager });
  const streams = grpcStreams({ manager, compresses, maxAnswerBytes: 1_000_000 });
  return { seen, manager, client: createClient(MasterService, new CallStreamTransport(base, streams)) };
}

const ask = (number: bigint) => create(ExchangeRequestSchema, { sessionId: '1', number });
const echo: Answering = async function* (requests) {
  for await (const { number, call } of requests)
    if (call.case === 'exchange')
      yield { number, answer: { case: 'exchange', value: { leases: [{ taskId: String(call.value.number) }] } } };
    else if (call.case === 'appendJournal')
      yield { number, answer: { case: 'appendJournal', value: { answers: [{ wakes: 7n }] } } };
};
const taskOf = ({ leases }: ExchangeResponse) => leases[0]!.taskId;

test('calls travel as messages of one stream, and each gets its own answer', async () => {
  const { client, seen } = await master(echo);
  const answers = await Promise.all([1n, 2n, 3n].map((number) => client.exchange(ask(number))));
  expect(answers.map(taskOf)).toEqual(['1', '2', '3']);
  expect((await client.appendJournal({ sessionId: '1', appends: [{}] })).answers[0]!.wakes).toBe(7n);
  expect(seen).toMatchObject({ calls: 0, streams: 1 });
});

test('errors have the code and the reason that the call would have had', async () => {
  const { client } = await master(async function* (requests) {
    for await (const { number } of requests)
      yield {
        number,
        answer: { case: 'error', value: { code: Code.FailedPrecondition, message: 'gone', reason: 'SESSION_LOST' } },
      };
  });
  const error = ConnectError.from(await client.exchange(ask(1n)).catch((thrown) => thrown));
  expect([error.code, error.rawMessage, reasonOf(error)]).toEqual([Code.FailedPrecondition, 'gone', 'SESSION_LOST']);
});

test('who leaves, or has waited for long enough, says so; the others go on', async () => {
  let answerThird = () => {};
  const { client, seen } = await master(async function* (requests) {
    for await (const { number, call } of requests) {
      if (call.case !== 'exchange' || call.value.number !== 3n) continue;
      await new Promise<void>((resolve) => {
        answerThird = resolve;
      });
      yield { number, answer: { case: 'exchange', value: { leases: [{ taskId: 'third' }] } } };
    }
  });
  const abort = new AbortController();
  const left = client.exchange(ask(1n), { signal: abort.signal });
  const late = client.exchange(ask(2n), { timeoutMs: 20 });
  abort.abort();
  await expect(left).rejects.toMatchObject({ code: Code.Canceled });
  await expect(late).rejects.toMatchObject({ code: Code.DeadlineExceeded });
  const third = client.exchange(ask(3n));
  while (!seen.messages.some(({ call }) => call.case === 'exchange' && call.value.number === 3n))
    await new Promise(setImmediate);
  await new Promise(setImmediate);
  answerThird();
  expect(taskOf(await third)).toBe('third');
  expect(seen.messages.filter(({ call }) => call.case === 'cancel').map(({ number }) => number)).toEqual([1n, 2n]);
});

test('a stream that ends fails what it left open, like a connection that broke; the next call opens another', async () => {
  let streams = 0;
  const { client, seen } = await master(async function* (requests) {
    if (++streams < 2) {
      for await (const _ of requests) return;
    }
    yield* echo(requests);
  });
  await expect(client.exchange(ask(1n))).rejects.toMatchObject({ code: Code.Unavailable });
  expect(taskOf(await client.exchange(ask(2n)))).toBe('2');
  expect(seen.streams).toBe(2);
});

test('a stream that is refused fails its calls as of the moment, and for a while calls are calls', async () => {
  // biome-ignore lint/correctness/useYield: it refuses
  const { client, seen } = await master(async function* () {
    throw new ConnectError('too large', Code.ResourceExhausted);
  });
  await expect(client.exchange(ask(1n))).rejects.toMatchObject({ code: Code.Unavailable });
  await client.exchange(ask(2n));
  expect(seen).toMatchObject({ calls: 1, streams: 1 });
});

test('where the master knows no streams, and for large messages, calls are calls', async () => {
  const older = await master(undefined);
  await Promise.all([older.client.exchange(ask(1n)), older.client.exchange(ask(2n))]);
  expect(older.seen.calls).toBe(2);
  const { client, seen } = await master(echo);
  const result = create(TaskResultSchema, { outcome: { case: 'success', value: { output: new Uint8Array(300_000) } } });
  await client.exchange({ ...ask(1n), results: [result] });
  expect(seen).toMatchObject({ calls: 1, streams: 0 });
});

test('compressed messages of any size arrive whole and in their order, both ways', async () => {
  const { client, seen } = await master(async function* (requests) {
    for await (const { number, call } of requests)
      if (call.case === 'exchange') {
        const output = call.value.results[0]!.outcome.value as { output: Uint8Array };
        yield { number, answer: { case: 'exchange', value: { leases: [{ input: output.output }] } } };
      }
  }, true);
  const sizes = [0, 200_000, 10, 1_024, 100_000, 1];
  const inputs = sizes.map((size, n) => new Uint8Array(size).map((_, i) => (n * 31 + i * i) % 251));
  const answers = await Promise.all(
    inputs.map((output, n) => {
      const result = create(TaskResultSchema, { outcome: { case: 'success', value: { output } } });
      return client.exchange({ ...ask(BigInt(n)), results: [result] });
    }),
  );
  expect(answers.map(({ leases }) => [...leases[0]!.input])).toEqual(inputs.map((input) => [...input]));
  expect(seen).toMatchObject({ calls: 0, streams: 1 });
  expect(seen.messages.map(({ call }) => (call.case === 'exchange' ? Number(call.value.number) : -1))).toEqual([
    0, 1, 2, 3, 4, 5,
  ]);
});

test('a connection that is cut, and an answer that is too large, fail the calls under way as of the moment', async () => {
  const { client, manager, seen } = await master(async function* (requests) {
    for await (const { number, call } of requests)
      if (call.case === 'exchange' && call.value.number === 2n)
        yield { number, answer: { case: 'exchange', value: { leases: [{ input: new Uint8Array(2_000_000) }] } } };
  });
  const cut = client.exchange(ask(1n));
  while (seen.messages.length === 0) await new Promise(setImmediate);
  manager.abort();
  await expect(cut).rejects.toMatchObject({ code: Code.Unavailable });
  const [first, second] = [client.exchange(ask(1n)), client.exchange(ask(2n))];
  await expect(first).rejects.toMatchObject({ code: Code.Unavailable });
  await expect(second).rejects.toMatchObject({ code: Code.Unavailable });
  await client.exchange(ask(3n));
  expect(seen).toMatchObject({ calls: 1, streams: 2 });
});

test('where nobody listens, calls fail as calls do', async () => {
  const { client, manager } = await master(echo);
  await client.exchange(ask(1n));
  await opened[0]!();
  manager.abort();
  await expect(client.exchange(ask(2n))).rejects.toMatchObject({ code: Code.Unavailable });
});
