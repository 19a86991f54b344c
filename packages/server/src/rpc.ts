import { IncomingMessage } from 'node:http';
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ConnectRouterOptions,
  createConnectRouter,
  type Interceptor,
} from '@connectrpc/connect';
import type { UniversalHandler, UniversalServerResponse } from '@connectrpc/connect/protocol';
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import { type NodeRequest, type NodeResponse, sendError } from './answers.ts';
import { fastGzip } from './gzip.ts';
import { recordLeanRpcs } from './lean-rpcs.ts';
import type { OnError, RouterOptions } from './options.ts';
import type { StreamRpc } from './stream-rpc.ts';
import { supervise } from './supervise.ts';
import type { UnaryRpc } from './unary.ts';

export interface RpcOptions {
  routes: (router: ConnectRouter) => void;
  interceptors: readonly Interceptor[];
  /** The largest message read, in bytes, after decompression. */
  maxMessageBytes: number;
  /** Whether answers are compressed for those who ask for it; compressed requests are read in any case. */
  compressAnswers: boolean;
  shutdownSignal: AbortSignal;
  onError: OnError;
  /** See `ServeOptions`. */
  router: RouterOptions;
}

export interface RpcTable {
  /** The handler of a path such as `/baton.v1.TaskService/GetTask`. */
  get(path: string): UniversalHandler | undefined;
  /** Whether a path lies under one of the services, so that an unknown method is not taken for a page. */
  hasServiceOf(path: string): boolean;
  /** The same if it is unary, without a protocol. */
  getUnary(path: string): UnaryRpc | undefined;
  /** The same if it has many answers. */
  getStream(path: string): StreamRpc | undefined;
  /** Carries out one request. Never throws and never rejects. @param begun what was read of its body */
  handle(handler: UniversalHandler, request: NodeRequest, response: NodeResponse, begun?: readonly Uint8Array[]): void;
}

/** How a write ends under which the connection is closed; Connect takes these for faults of this side. */
const cutWrites: readonly unknown[] = ['ECANCELED', 'EPIPE'];

function isOfGonePeer(error: unknown): boolean {
  const { code, cause } = ConnectError.from(error);
  return code === Code.Aborted || cutWrites.includes((cause as NodeJS.ErrnoException | undefined)?.code);
}

/**
 * The RPCs of a router as handlers of node's requests, over HTTP/1 and HTTP/2: gRPC, gRPC-Web, Connect and JSON.
 * It does what `connectNodeAdapter` does, and reports errors rather than printing them; also, a request that
 * cannot be converted is refused there by an exception outside any promise, which would end the process.
 */
export function createRpcTable(options: RpcOptions): RpcTable {
  const interceptors = [supervise(options.shutdownSignal, options.onError), ...options.interceptors];
  const routerOptions: ConnectRouterOptions = {
    interceptors,
    readMaxBytes: options.maxMessageBytes,
    acceptCompression: [fastGzip],
    compressMinBytes: options.compressAnswers ? 1024 : Number.POSITIVE_INFINITY,
    shutdownSignal: options.shutdownSignal,
    // Connect ignores unknown JSON fields by default; here a typo in a hand-written request is an error that names it.
    jsonOptions: { ignoreUnknownFields: false },
    ...options.router,
  };
  const router = createConnectRouter(routerOptions);
  const { recording, rpcs, streams } = recordLeanRpcs(router, {
    interceptors,
    shutdownSignal: options.shutdownSignal,
    router: options.router,
  });
  options.routes(recording);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const services = new Set(router.handlers.map((handler) => handler.service.typeName));

  return {
    get: (path) => handlers.get(path),
    getUnary: (path) => rpcs.get(path),
    getStream: (path) => streams.get(path),
    hasServiceOf: (path) => services.has(path.slice(1, path.indexOf('/', 1))),
    handle(handler, request, response, begun) {
      const fail = (error: unknown) => {
        // Aborted is what becomes of a peer that went away; there is nobody to answer and nothing to report.
        if (!isOfGonePeer(error)) {
          options.onError(error, nameOf(handler));
        }
        if (response.headersSent) {
          response.destroy();
        } else {
          sendError(response, 500, 'internal', 'INTERNAL', 'internal error');
        }
      };
      try {
        const universal = universalRequestFromNodeRequest(request, response, undefined, undefined);
        if (request instanceof IncomingMessage) {
          universal.body = readBody(request);
        }
        if (begun !== undefined) {
          universal.body = continued(begun, request, universal.body as AsyncIterable<Uint8Array>);
        }
        handler(universal)
          .then((answer) => {
            // Connect says nothing more of these two; the usual cause is a curl without its header.
            if (answer.status === 415) {
              const message = 'send this RPC with Content-Type: application/json';
              sendError(response, 415, 'invalid_argument', 'WRONG_CONTENT_TYPE', message);
              return;
            }
            if (answer.status === 405) {
              response.setHeader('Allow', handler.allowedMethods.join(', '));
              sendError(response, 405, 'unimplemented', 'WRONG_HTTP_METHOD', 'call this RPC with POST');
              return;
            }
            return universalResponseToNodeResponse(withPlainMessage(answer, handler), response);
          })
          .catch(fail);
      } catch (error) {
        fail(error);
      }
    },
  };
}

/**
 * The body of an HTTP/1 request. Connect stops reading when a message is too large; node's iterator then destroys the
 * request but not its connection, on which nothing is read any more, so that the client's next call would hang.
 * Here the rest is read and thrown away, and the connection is good for the next call.
 */
async function* readBody(request: IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    yield* request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
  } finally {
    if (!request.readableEnded) {
      request.resume();
    }
  }
}

async function* continued(
  begun: readonly Uint8Array[],
  request: NodeRequest,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* begun;
  const isRead = request instanceof IncomingMessage ? request.readableEnded : request.stream.readableEnded;
  if (!isRead) {
    yield* rest;
  }
}

/**
 * gRPC percent-encodes what is no visible ASCII, and `%`. Connect encodes more (`:` too), of which grpc-js decodes only
 * a part, so that its users would read "task.kind%3A must be…".
 */
export function plainMessage(message: string): string {
  return message.replaceAll(/[^\x20-\x7e]|%/gu, encodeURIComponent);
}

function withPlainMessage(answer: UniversalServerResponse, handler: UniversalHandler): UniversalServerResponse {
  const { trailer, body } = answer;
  if (trailer === undefined) {
    return answer;
  }
  const rewrite = () => {
    const message = trailer.get('grpc-message');
    if (message !== null) {
      trailer.set('grpc-message', plainMessage(decodeURIComponent(message)));
    }
  };
  if (handler.method.methodKind === 'unary' || body === undefined || body === null) {
    // The handler has ended by now, and its error stands in the trailer.
    rewrite();
    return answer;
  }
  const rewritten = async function* (chunks: AsyncIterable<Uint8Array>) {
    yield* chunks;
    rewrite();
  };
  return { ...answer, body: rewritten(body) };
}

function nameOf(handler: UniversalHandler): string {
  return `${handler.service.typeName}/${handler.method.name}`;
}
