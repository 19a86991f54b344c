import type { IncomingHttpHeaders } from 'node:http';
import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type Message,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type HandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type StreamRequest,
  type UnaryRequest,
  type UnaryResponse,
} from '@connectrpc/connect';
import type { RouterOptions } from './options.ts';

export interface UnaryOptions {
  /** Outermost first. */
  interceptors: readonly Interceptor[];
  shutdownSignal: AbortSignal;
  router: RouterOptions;
}

/** One call as it came in, by whichever protocol. */
export interface UnaryCall {
  readonly protocolName: string;
  readonly headers: IncomingHttpHeaders;
  /** Absolute, such as `http://127.0.0.1:7800/baton.v1.TaskService/SubmitTask`. */
  readonly url: () => string;
  readonly timeoutMs: number | undefined;
  /** Calls back when the peer goes before its answer; asked for only where somebody looks at the call's signal. */
  readonly onGone: (listener: (reason?: unknown) => void) => void;
}

/** What a call came to. The headers are those that a handler or an interceptor made, of which there are mostly none. */
export type UnaryOutcome =
  | { readonly bytes: Uint8Array; readonly header?: Headers; readonly trailer?: Headers }
  | { readonly error: ConnectError; readonly header?: Headers; readonly trailer?: Headers };

/** A unary RPC without its protocol. */
export interface UnaryRpc {
  /** Undefined if the bytes are no such message. */
  decode(bytes: Uint8Array): Message | undefined;
  /** Never rejects. */
  invoke(input: Message, call: UnaryCall): Promise<UnaryOutcome>;
}

export type UnarySpec = Extract<MethodImplSpec, { kind: 'unary' }>;
type Answer = UnaryResponse<DescMessage, DescMessage>;

/** As Connect aborts the signal of a call that went well; one for all, for its stack costs more than a call. */
const over = new DOMException('This operation was aborted', 'AbortError');
const running = Symbol('call');

export function unaryRpc(spec: UnarySpec, options: UnaryOptions, calls: Set<Running>): UnaryRpc {
  const { method } = spec;
  const service = method.parent;
  const handle = async (request: UnaryRequest): Promise<Answer> => {
    const call = (request as UnaryRequest & { [running]: Running })[running];
    const output = await spec.impl(request.message as never, contextOf(call, request));
    return call.answer(request, create(method.output, output as never) as MessageShape<DescMessage>);
  };
  const next = options.interceptors.reduceRight<(request: UnaryRequest) => Promise<Answer>>(
    (inner, interceptor) => interceptor(inner as never) as never,
    handle,
  );
  return {
    decode(bytes) {
      try {
        return fromBinary(method.input, bytes) as Message;
      } catch {
        return undefined;
      }
    },
    async invoke(input, init) {
      const call = new Running(init, options.shutdownSignal, calls);
      try {
        const request = {
          [running]: call,
          stream: false as const,
          method,
          service,
          requestMethod: 'POST',
          message: input as MessageShape<DescMessage>,
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
        const answer = await next(request);
        const bytes = encode(method.output, answer.message);
        const { madeHeader, madeTrailer } = call;
        call.end();
        return answer === call.ownAnswer
          ? { bytes, header: madeHeader, trailer: madeTrailer }
          : { bytes, header: answer.header, trailer: answer.trailer };
      } catch (thrown) {
        const error = wrapped(thrown);
        await tellGate(() => contextFor(method, call), options.router, error);
        call.abort(thrown);
        call.end();
        return { error, header: call.madeHeader, trailer: call.madeTrailer };
      }
    },
  };
}

/** What a handler threw, as its peer sees it. */
export function wrapped(thrown: unknown): ConnectError {
  return thrown instanceof ConnectError
    ? thrown
    : new ConnectError('internal error', Code.Internal, undefined, undefined, thrown);
}

export function encode(schema: DescMessage, message: Message): Uint8Array {
  try {
    return toBinary(schema, message as never);
  } catch (error) {
    throw new ConnectError(`serialize binary: ${error instanceof Error ? error.message : error}`, Code.Internal);
  }
}

/** Those who watch calls from the gate on learn of what failed by the signal, and may complete the error before it is written. */
export async function tellGate(
  context: () => HandlerContext,
  { requestGate }: RouterOptions,
  thrown: unknown,
): Promise<void> {
  if (requestGate !== undefined) {
    const told = new AbortController();
    await requestGate({ ...context(), signal: told.signal });
    told.abort(thrown);
  }
}

export function contextOf(call: Running, request: UnaryRequest | StreamRequest): HandlerContext {
  const { init } = call;
  return {
    protocolName: init.protocolName,
    requestMethod: request.requestMethod,
    method: request.method,
    service: request.service,
    timeoutMs: () => call.leftMs(),
    get url() {
      return request.url;
    },
    get signal() {
      return request.signal;
    },
    get requestHeader() {
      return request.header;
    },
    get responseHeader() {
      return call.responseHeader;
    },
    get responseTrailer() {
      return call.responseTrailer;
    },
    get values() {
      return request.contextValues;
    },
  };
}

export function contextFor(method: DescMethod, call: Running): HandlerContext {
  return contextOf(call, {
    method,
    service: method.parent,
    requestMethod: 'POST',
    url: call.init.url(),
    signal: call.signal,
    header: call.requestHeader,
    contextValues: call.values,
  } as UnaryRequest);
}

/** What a call has, made when it is asked for. */
export class Running {
  readonly init: UnaryCall;
  ownAnswer: Answer | undefined;
  madeHeader: Headers | undefined;
  madeTrailer: Headers | undefined;
  readonly #cut: AbortSignal;
  readonly #calls: Set<Running>;
  readonly #deadlineMs: number | undefined;
  #requestHeader: Headers | undefined;
  #values: ContextValues | undefined;
  #controller: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(init: UnaryCall, cut: AbortSignal, calls: Set<Running>) {
    this.init = init;
    this.#cut = cut;
    this.#calls = calls;
    this.#deadlineMs = init.timeoutMs === undefined ? undefined : performance.now() + init.timeoutMs;
  }

  leftMs(): number | undefined {
    return this.#deadlineMs === undefined ? undefined : this.#deadlineMs - performance.now();
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      this.#watch();
    }
    return this.#controller.signal;
  }

  get requestHeader(): Headers {
    if (this.#requestHeader === undefined) {
      this.#requestHeader = webHeaders(this.init.headers);
    }
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.madeHeader ??= new Headers();
    return this.madeHeader;
  }

  get responseTrailer(): Headers {
    this.madeTrailer ??= new Headers();
    return this.madeTrailer;
  }

  get values(): ContextValues {
    this.#values ??= createContextValues();
    return this.#values;
  }

  answer({ method, service }: UnaryRequest, message: MessageShape<DescMessage>): Answer {
    const call = this;
    this.ownAnswer = {
      stream: false,
      method,
      service,
      message,
      get header() {
        return call.responseHeader;
      },
      get trailer() {
        return call.responseTrailer;
      },
    };
    return this.ownAnswer;
  }

  abort(reason: unknown): void {
    this.#controller?.abort(reason);
  }

  end(): void {
    this.#isOver = true;
    if (this.#controller !== undefined) {
      clearTimeout(this.#timer);
      this.#calls.delete(this);
      this.#controller.abort(over);
    }
  }

  #watch(): void {
    if (this.#isOver) {
      this.abort(over);
      return;
    }
    if (this.#cut.aborted) {
      this.abort(this.#cut.reason);
      return;
    }
    this.#calls.add(this);
    // Told after each call's end too, where making a reason costs more than all else that is left.
    this.init.onGone((reason) => {
      if (!this.#isOver) this.abort(reason);
    });
    const leftMs = this.leftMs();
    if (leftMs === undefined) {
      return;
    }
    const late = () => this.abort(new ConnectError('the operation timed out', Code.DeadlineExceeded));
    if (leftMs <= 0) {
      late();
    } else if (leftMs < 0x7fffffff) {
      this.#timer = setTimeout(late, leftMs);
    }
  }
}

function webHeaders(headers: IncomingHttpHeaders): Headers {
  const web = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(':')) {
      continue;
    }
    for (const each of Array.isArray(value) ? value : [value]) {
      web.append(name, each);
    }
  }
  return web;
}
