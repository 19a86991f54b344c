import { create, type DescMessage, fromBinary, type Message } from '@bufbuild/protobuf';
import type { ConnectError, HandlerContext, MethodImplSpec, StreamRequest, StreamResponse } from '@connectrpc/connect';
import {
  contextFor,
  contextOf,
  encode,
  Running,
  tellGate,
  type UnaryCall,
  type UnaryOptions,
  wrapped,
} from './unary.ts';

/** Where the answers of a call go. */
export interface AnswerSink {
  /** Of one message. False: nobody is there any more. A promise where the peer does not keep up. */
  write(message: SentMessage, header: Headers | undefined): boolean | Promise<boolean>;
  end(error: ConnectError | undefined, header: Headers | undefined, trailer: Headers | undefined): void;
}

/** A message on the wire; the same object for all calls that answer with the same message. */
export interface SentMessage {
  readonly bytes: Uint8Array;
  /** What protocols make of the bytes, by its name; made once. */
  readonly made: Map<string, unknown>;
}

/** An RPC with one question or many, and many answers, without its protocol. */
export interface StreamRpc {
  readonly kind: 'server_streaming' | 'bidi_streaming';
  /** Undefined if the bytes are no such message. */
  decode(bytes: Uint8Array): Message | undefined;
  /** Never rejects. @param inputs of a call with one question, one */
  run(inputs: AsyncIterable<Message>, call: UnaryCall, sink: AnswerSink): Promise<void>;
}

export type StreamSpec = Extract<MethodImplSpec, { kind: 'server_streaming' | 'bidi_streaming' }>;

const running = Symbol('call');

/**
 * As for unary RPCs (see `recordLeanRpcs`): interceptors, handlers and their context are what they are elsewhere, and what Connect has
 * between them and the wire, eight generators for each message, is not there. Answers are encoded once: a handler that gives the same object
 * to a thousand calls pays for one (one question; with many, each answer is its own).
 */
export function streamRpc(spec: StreamSpec, options: UnaryOptions, calls: Set<Running>): StreamRpc {
  const { method } = spec;
  const service = method.parent;
  const sent = new WeakMap<Message, SentMessage>();
  const sentOf = (message: Message): SentMessage => {
    if (spec.kind === 'bidi_streaming') return { bytes: encode(method.output, message), made: new Map() };
    const known = sent.get(message) ?? { bytes: encode(method.output, message), made: new Map() };
    sent.set(message, known);
    return known;
  };
  const handle = async (request: StreamRequest): Promise<StreamResponse> => {
    const call = (request as StreamRequest & { [running]: Running })[running];
    const context = contextOf(call, request);
    const answers = await answersOf(spec, request.message as AsyncIterable<Message>, context);
    return {
      stream: true,
      method,
      service,
      message: { [Symbol.asyncIterator]: () => normalized(answers, method.output) } as StreamResponse['message'],
      get header() {
        return call.responseHeader;
      },
      get trailer() {
        return call.responseTrailer;
      },
    } as StreamResponse;
  };
  const next = options.interceptors.reduceRight<(request: StreamRequest) => Promise<StreamResponse>>(
    (inner, interceptor) => interceptor(inner as never) as never,
    handle,
  );
  return {
    kind: spec.kind,
    decode(bytes) {
      try {
        return fromBinary(method.input, bytes) as Message;
      } catch {
        return undefined;
      }
    },
    async run(inputs, init, sink) {
      const call = new Running(init, options.shutdownSignal, calls);
      let error: ConnectError | undefined;
      try {
        const request = {
          [running]: call,
          stream: true as const,
          method,
          service,
          requestMethod: 'POST',
          message: inputs,
          // Own properties, for interceptors copy requests.
          get url() {
            return init.url();
          },
          get signal() {
            return call.signal;
          },
          get header() {
            return call.requestHeader;
          },
          get contextValues() {
            return call.values;
          },
        };
        const response = await next(request as StreamRequest);
        for await (const message of response.message) {
          const written = sink.write(sentOf(message as Message), call.madeHeader);
          if (!(typeof written === 'boolean' ? written : await written)) break;
        }
      } catch (thrown) {
        error = wrapped(thrown);
        await tellGate(() => contextFor(method, call), options.router, error);
        call.abort(thrown);
      }
      call.end();
      sink.end(error, call.madeHeader, call.madeTrailer);
    },
  };
}

async function answersOf(
  spec: StreamSpec,
  inputs: AsyncIterable<Message>,
  context: HandlerContext,
): Promise<AsyncIterator<unknown>> {
  if (spec.kind === 'bidi_streaming') return spec.impl(inputs as never, context)[Symbol.asyncIterator]();
  let input: Message | undefined;
  for await (const message of inputs) input = message;
  return spec.impl(input as never, context)[Symbol.asyncIterator]();
}

/** The question of a call that has one. */
export async function* only<T>(message: T): AsyncGenerator<T> {
  yield message;
}

/** Handlers may give plain objects. What is a message already stays the object that it is. */
function normalized(answers: AsyncIterator<unknown>, schema: DescMessage): AsyncIterator<Message> {
  const message = (result: IteratorResult<unknown>) =>
    (result.done ? result : { done: false, value: create(schema, result.value as never) }) as IteratorResult<Message>;
  return {
    next: () => answers.next().then(message),
    ...(answers.return && { return: (value?: unknown) => answers.return!(value).then(message) }),
    ...(answers.throw && { throw: (reason?: unknown) => answers.throw!(reason).then(message) }),
  };
}
