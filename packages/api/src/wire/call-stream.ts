import type { CallStreamRequest, CallStreamResponse, MasterService } from '@baton/contract';
import { AppendJournalResponseSchema, CallStreamResponseSchema, ExchangeResponseSchema } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { convertError } from './errors.ts';
import type { ApiOptions } from './options.ts';

type Calls = Pick<Required<ServiceImpl<typeof MasterService>>, 'exchange' | 'appendJournal'>;

/**
 * Carries out calls that come as messages of one stream: by the handlers of the calls themselves, each with a signal of its own. The
 * stream ends when its caller ends it; or, when this server goes, as soon as the calls under way are answered.
 */
export async function* callStream(
  calls: Calls,
  options: Pick<ApiOptions, 'closing' | 'report'>,
  requests: AsyncIterable<CallStreamRequest>,
  context: HandlerContext,
): AsyncGenerator<CallStreamResponse> {
  const answers: CallStreamResponse[] = [];
  const running = new Map<bigint, AbortController>();
  let isOver = false;
  let wake = () => {};

  async function carryOut(
    { call }: CallStreamRequest,
    abort: AbortController,
  ): Promise<CallStreamResponse['answer'] | undefined> {
    const own: HandlerContext = { ...context, signal: abort.signal };
    try {
      switch (call.case) {
        case 'exchange':
          return { case: 'exchange', value: create(ExchangeResponseSchema, await calls.exchange(call.value, own)) };
        case 'appendJournal':
          return {
            case: 'appendJournal',
            value: create(AppendJournalResponseSchema, await calls.appendJournal(call.value, own)),
          };
        default:
          throw new ConnectError('this master knows no such call in a stream', Code.Unimplemented);
      }
    } catch (thrown) {
      if (abort.signal.aborted) return undefined;
      const error = convertError(thrown, options.report, 'baton.v1.MasterService/CallStream');
      const reason = error.findDetails(errorDetails.ErrorInfoSchema)[0]?.reason ?? '';
      return {
        case: 'error',
        value: { $typeName: 'baton.v1.CallError', code: error.code, message: error.rawMessage, reason },
      };
    }
  }

  const take = (request: CallStreamRequest) => {
    if (request.call.case === 'cancel') {
      running.get(request.number)?.abort(new ConnectError('nobody waits for it any more', Code.Canceled));
      return;
    }
    const { number } = request;
    const abort = new AbortController();
    running.set(number, abort);
    void carryOut(request, abort).then((answer) => {
      // In one turn: the stream does not end before an answer that is ready.
      running.delete(number);
      if (answer !== undefined) answers.push(create(CallStreamResponseSchema, { number, answer }));
      wake();
    });
  };
  const end = () => {
    isOver = true;
    wake();
  };
  const cut = () => {
    end();
    for (const abort of running.values()) abort.abort(new ConnectError('the caller has gone', Code.Canceled));
  };
  context.signal.addEventListener('abort', cut, { once: true });
  options.closing?.addEventListener('abort', end, { once: true });
  if (options.closing?.aborted) end();
  void (async () => {
    try {
      for await (const request of requests) take(request);
      end();
    } catch {
      // Its connection broke.
      cut();
    }
  })();
  try {
    while (!context.signal.aborted) {
      const ready = answers.splice(0);
      for (const answer of ready) yield answer;
      if (ready.length > 0) continue;
      if (isOver && running.size === 0) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      if (answers.length === 0 && !(isOver && running.size === 0)) await promise;
    }
  } finally {
    context.signal.removeEventListener('abort', cut);
    options.closing?.removeEventListener('abort', end);
    cut();
  }
}
