import {
  type CallStreamRequest,
  type CallStreamResponseSchema,
  ExchangeRequestSchema,
  type ExchangeResponse,
  MasterService,
  TaskResultSchema,
} from '@baton/contract';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { CallStreamTransport } from './call-stream.ts';
import { reasonOf } from './refusal.ts';

type Response = MessageInitShape<typeof CallStreamResponseSchema>;
type Answering = (requests: AsyncIterable<CallStreamRequest>) => AsyncIterable<Response>;

/** A master that answers a stream as it is told, and counts what comes as calls. */
function master(answering: Answering | undefined) {
  const seen = { calls: 0, streams: 0, messages: [] as CallStreamRequest[] };
  const base = createRouterTransport((router) => {
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
  });
  return { seen, client: createClient(MasterService, new CallStreamTransport(base)) };
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
  const { client, seen } = master(echo);
  const answers = await Promise.all([1n, 2n, 3n].map((number) => client.exchange(ask(number))));
  expect(answers.map(taskOf)).toEqual(['1', '2', '3']);
  expect((await client.appendJournal({ sessionId: '1', appends: [{}] })).answers[0]!.wakes).toBe(7n);
  expect(seen).toMatchObject({ calls: 0, streams: 1 });
});

test('errors have the code and the reason that the call would have had', async () => {
  const { client } = master(async function* (requests) {
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
  const { client, seen } = master(async function* (requests) {
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
  const { client, seen } = master(async function* (requests) {
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
  const { client, seen } = master(async function* () {
    throw new ConnectError('too large', Code.ResourceExhausted);
  });
  await expect(client.exchange(ask(1n))).rejects.toMatchObject({ code: Code.Unavailable });
  await client.exchange(ask(2n));
  expect(seen).toMatchObject({ calls: 1, streams: 1 });
});

test('where the master knows no streams, and for large messages, calls are calls', async () => {
  const older = master(undefined);
  await Promise.all([older.client.exchange(ask(1n)), older.client.exchange(ask(2n))]);
  expect(older.seen.calls).toBe(2);
  const { client, seen } = master(echo);
  const result = create(TaskResultSchema, { outcome: { case: 'success', value: { output: new Uint8Array(300_000) } } });
  await client.exchange({ ...ask(1n), results: [result] });
  expect(seen).toMatchObject({ calls: 1, streams: 0 });
});
