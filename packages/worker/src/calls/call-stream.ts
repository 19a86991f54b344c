import {
  type AppendJournalRequest,
  type CallStreamRequest,
  CallStreamRequestSchema,
  type CallStreamResponse,
  CallStreamResponseSchema,
  type ExchangeRequest,
  MasterService,
} from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ContextValues,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from '@connectrpc/connect';
import type { OpenStream } from './message-stream.ts';

/** Larger messages are calls of their own: one that the master will not read must not end the others. */
const MAX_BYTES = 256 * 1024;
/** So long calls are made as calls after a stream was refused, ms. */
const REFUSED_MS = 30_000;

const PATH = `/${MasterService.typeName}/${MasterService.method.callStream.name}`;

type Call = CallStreamRequest['call'];
type Answer = CallStreamResponse['answer'];

interface Pending {
  settle(answer: Answer): void;
  /** `mayRepeat`: the master does not know such streams, and has done nothing. */
  fail(error: ConnectError, mayRepeat: boolean): void;
}

interface Stream {
  readonly pending: Map<bigint, Pending>;
  send(request: CallStreamRequest): void;
}

/**
 * A transport that makes the two calls that a worker makes all the time, Exchange and AppendJournal, as messages of one stream. That saves
 * both sides about half a millisecond of CPU each time: for a step of a function, master 1.45 → 0.89 ms, worker 1.07 → 0.54 ms. Whoever calls sees no difference: time-outs, signals and
 * errors are those of calls. A stream that breaks fails the calls under way like a connection that broke; the next one opens another.
 * Where the master knows no streams, calls are calls.
 */
export class CallStreamTransport implements Transport {
  readonly #base: Transport;
  readonly #openStream: OpenStream;
  #stream: Stream | undefined;
  #number = 0n;
  #refusedUntilMs = 0;

  /** @param openStream how streams are made; `base` makes the calls */
  constructor(base: Transport, openStream: OpenStream) {
    this.#base = base;
    this.#openStream = openStream;
  }

  stream<I extends DescMessage, O extends DescMessage>(
    ...call: [
      DescMethodStreaming<I, O>,
      AbortSignal | undefined,
      number | undefined,
      HeadersInit | undefined,
      AsyncIterable<MessageInitShape<I>>,
      ContextValues?,
    ]
  ): Promise<StreamResponse<I, O>> {
    return this.#base.stream(...call);
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const asCall = () => this.#base.unary(method, signal, timeoutMs, header, input, contextValues);
    const call = performance.now() < this.#refusedUntilMs ? undefined : callOf(method, input);
    if (call === undefined) return asCall();
    if (signal?.aborted) throw ConnectError.from(signal.reason, Code.Canceled);
    let answer: Answer;
    try {
      answer = await this.#call(call, signal, timeoutMs);
    } catch (error) {
      if (error instanceof NoStreams) return asCall();
      throw error;
    }
    if (answer.case === 'error') throw errorOf(answer.value);
    if (answer.case !== call.case) throw new ConnectError('the answer is that of another call', Code.Internal);
    const message = answer.value as unknown as UnaryResponse<I, O>['message'];
    return {
      stream: false,
      service: method.parent,
      method,
      header: new Headers(),
      trailer: new Headers(),
      message,
    };
  }

  #call(call: Call, signal: AbortSignal | undefined, timeoutMs: number | undefined): Promise<Answer> {
    this.#stream ??= this.#open();
    const stream = this.#stream;
    const number = ++this.#number;
    return new Promise((resolve, reject) => {
      const done = () => {
        stream.pending.delete(number);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const leave = (error: ConnectError) => {
        done();
        stream.send(create(CallStreamRequestSchema, { number, call: { case: 'cancel', value: true } }));
        reject(error);
      };
      const onAbort = () => leave(ConnectError.from(signal!.reason, Code.Canceled));
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => leave(new ConnectError('the operation timed out', Code.DeadlineExceeded)), timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      stream.pending.set(number, {
        settle: (answer) => {
          done();
          resolve(answer);
        },
        fail: (error, mayRepeat) => {
          done();
          reject(mayRepeat ? new NoStreams() : error);
        },
      });
      stream.send(create(CallStreamRequestSchema, { number, call }));
    });
  }

  #open(): Stream {
    const pending = new Map<bigint, Pending>();
    const opened = this.#openStream(PATH, {
      onMessage: (message) => {
        const { number, answer } = fromBinary(CallStreamResponseSchema, message);
        pending.get(number)?.settle(answer);
      },
      onEnd: (cause) => {
        if (this.#stream === stream) this.#stream = undefined;
        const mayRepeat = cause?.code === Code.Unimplemented;
        if (cause !== undefined && !BROKEN.includes(cause.code)) this.#refusedUntilMs = performance.now() + REFUSED_MS;
        // As a call fails whose connection broke: whatever ended the stream, no call was answered for it.
        const message = cause?.rawMessage ?? 'the master has ended the stream';
        const error = new ConnectError(message, Code.Unavailable, undefined, undefined, cause);
        for (const each of [...pending.values()]) each.fail(error, mayRepeat);
      },
    });
    const stream: Stream = {
      pending,
      send: (request) => opened.send(toBinary(CallStreamRequestSchema, request)),
    };
    return stream;
  }
}

/** The codes of a connection that broke. */
const BROKEN: readonly Code[] = [Code.Unavailable, Code.Canceled, Code.Aborted, Code.DeadlineExceeded, Code.Unknown];

class NoStreams extends Error {
  override readonly name = 'NoStreams';
}

/** A call that may travel in a stream. */
function callOf(method: DescMethodUnary, input: unknown): Call | undefined {
  if (method === (MasterService.method.exchange as DescMethodUnary)) {
    const value = input as ExchangeRequest;
    if (value.$typeName === undefined) return undefined;
    let bytes = 0;
    for (const { outcome } of value.results) {
      bytes += 100;
      if (outcome.case === 'success') bytes += outcome.value.output.length;
      else if (outcome.case === 'failure') bytes += 3 * (outcome.value.message.length + outcome.value.stack.length);
    }
    return bytes <= MAX_BYTES ? { case: 'exchange', value } : undefined;
  }
  if (method === (MasterService.method.appendJournal as DescMethodUnary)) {
    const value = create(MasterService.method.appendJournal.input, input as AppendJournalRequest);
    return bytesOf(value) <= MAX_BYTES ? { case: 'appendJournal', value } : undefined;
  }
  return undefined;
}

function bytesOf({ appends }: AppendJournalRequest): number {
  let bytes = 0;
  for (const { entries, success } of appends) {
    bytes += 100 + (success?.output.length ?? 0);
    for (const { output, makes, failure, name } of entries) {
      bytes += 200 + 3 * name.length + (output?.length ?? 0);
      if (failure !== undefined) bytes += 3 * (failure.message.length + failure.stack.length);
      if (makes.case !== undefined) bytes += makes.value.input?.length ?? 0;
    }
  }
  return bytes;
}

function errorOf({ code, message, reason }: { code: number; message: string; reason: string }): ConnectError {
  const error = new ConnectError(message, code in Code ? code : Code.Unknown);
  if (reason !== '')
    error.details = [{ desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton', metadata: {} } }];
  return error;
}
