import { type CallStreamRequest, CallStreamRequestSchema } from '@baton/contract';
import { Refusal } from '@baton/domain';
import { create } from '@bufbuild/protobuf';
import { Code, type HandlerContext } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { callStream } from './call-stream.ts';

type Exchange = Parameters<typeof callStream>[0]['exchange'];

/** A stream that is open, whose calls are carried out by `exchange`. */
function opened(exchange: Exchange) {
  const closing = new AbortController();
  const gone = new AbortController();
  const waiting: (CallStreamRequest | null)[] = [];
  let wake = () => {};
  const requests = async function* () {
    for (;;) {
      const next = waiting.shift();
      if (next === null) return;
      if (next) yield next;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  };
  const send = (request: CallStreamRequest | null) => {
    waiting.push(request);
    wake();
  };
  const answers = callStream(
    { exchange, appendJournal: () => ({ answers: [] }) },
    { closing: closing.signal, report: () => {} },
    requests(),
    { signal: gone.signal } as HandlerContext,
  );
  return {
    answers,
    closing,
    gone,
    end: () => send(null),
    ask: (number: bigint) =>
      send(create(CallStreamRequestSchema, { number, call: { case: 'exchange', value: { number } } })),
    cancel: (number: bigint) =>
      send(create(CallStreamRequestSchema, { number, call: { case: 'cancel', value: true } })),
  };
}

test('answers come as they are ready, and an error is that of its call alone', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { answers, ask, end } = opened(async ({ number }) => {
    if (number === 1n) await held;
    if (number === 2n) throw new Refusal('failed_precondition', 'SESSION_LOST', 'it is over');
    return { refused: [{ taskId: String(number) }] };
  });
  for (const number of [1n, 2n, 3n]) ask(number);
  const first = [(await answers.next()).value, (await answers.next()).value];
  expect(first.map((answer) => answer?.number).sort()).toEqual([2n, 3n]);
  expect(first.find((answer) => answer?.number === 2n)?.answer.value).toMatchObject({
    code: Code.FailedPrecondition,
    reason: 'SESSION_LOST',
    message: 'it is over',
  });
  end();
  release();
  expect((await answers.next()).value).toMatchObject({ number: 1n, answer: { value: { refused: [{ taskId: '1' }] } } });
  expect((await answers.next()).done).toBe(true);
});

test('a cancelled call hears of it, and is not answered; a stream that is gone cancels all', async () => {
  const cut: bigint[] = [];
  const { answers, ask, cancel, gone } = opened(
    ({ number }, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          cut.push(number);
          resolve({});
        });
        if (number === 3n) resolve({});
      }),
  );
  for (const number of [1n, 2n]) ask(number);
  cancel(1n);
  ask(3n);
  const numbers = [(await answers.next()).value?.number, (await answers.next()).value?.number];
  expect(cut).toEqual([1n]);
  expect(numbers).toContain(3n);
  gone.abort();
  expect(cut).toContain(2n);
});

test('when the server goes, the calls under way are answered, and the stream ends', async () => {
  let release = () => {};
  const { answers, ask, closing } = opened(
    () =>
      new Promise((resolve) => {
        release = () => resolve({});
      }),
  );
  ask(1n);
  const next = answers.next();
  await new Promise(setImmediate);
  closing.abort();
  release();
  expect((await next).value?.number).toBe(1n);
  expect((await answers.next()).done).toBe(true);
});
