import http from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { health } from '@baton/contract/grpc';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  isRpcContent,
  type NodeRequest,
  type NodeResponse,
  notFound,
  send,
  sendError,
  unimplemented,
} from './answers.ts';
import { serveBidiStream } from './bidi-http2.ts';
import { BindError, PortTakenError } from './errors.ts';
import { fetchListener } from './fetch-listener.ts';
import { createGate } from './gate.ts';
import { createHealth, registerHealth } from './health.ts';
import { Http2Sessions } from './http2-sessions.ts';
import type { OnError, RunningServer, ServeOptions, ServerContext, ServerTiming } from './options.ts';
import { reflectionServices, registerReflection } from './reflection.ts';
import { createRpcTable } from './rpc.ts';
import { sniffProtocol } from './sniff.ts';
import { isPlainConnect, serveUnaryRequest } from './unary-http1.ts';
import { isGrpc, isPlain, serveUnaryStream } from './unary-http2.ts';

type StreamListener = (
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  flags: number,
  rawHeaders: string[],
) => void;

const defaultTiming: ServerTiming = {
  silenceTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 120_000,
  keepAliveTimeoutMs: 75_000,
  pingIntervalMs: 20_000,
  pingTimeoutMs: 10_000,
};
const defaultMaxMessageBytes = 4 * 1024 * 1024 + 64 * 1024;
const compressMinBytes = 1024;
const defaultGraceMs = 10_000;
// What is cut is first answered, then its session is ended, then its socket destroyed, with this time between.
const lastWordMs = 50;

/**
 * Serves gRPC (h2c), gRPC-Web, Connect and JSON, health, reflection and a fetch handler on one plaintext port.
 *
 * Node's HTTP/2 server does not speak HTTP/1 in plaintext. So an `http.Server` owns the listener (a `net.Server` in
 * front would lose its header time-outs), and its own connection listener is put behind a look at the first bytes.
 *
 * Throws `PortTakenError`, `BindError`, `InvalidOriginError`.
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const host = options.host ?? '127.0.0.1';
  const timing = { ...defaultTiming, ...options.timing };
  const onError: OnError = options.onError ?? ((error, where) => console.error(`${where}:`, error));
  const closing = new AbortController();
  const cut = new AbortController();

  const gate = createGate({
    host,
    allowedHosts: options.allowedHosts ?? [],
    corsOrigins: options.corsOrigins ?? 'none',
  });
  const context: ServerContext = { closing: closing.signal };
  const maxMessageBytes = options.maxMessageBytes ?? defaultMaxMessageBytes;
  const rpcs = createRpcTable({
    routes(router) {
      const served = [...options.services, health.Health, ...reflectionServices];
      const names = options.services.map((service) => service.typeName);
      options.routes(router, context);
      registerHealth(router, options.health ?? createHealth(names), names, closing.signal);
      registerReflection(router, served);
    },
    interceptors: options.interceptors ?? [],
    maxMessageBytes,
    compressAnswers: options.compressAnswers ?? true,
    shutdownSignal: cut.signal,
    onError,
    router: options.router ?? {},
  });
  const answerOther = options.fetch === undefined ? notFound : fetchListener(options.fetch, context, onError);

  const lean = {
    compressMinBytes: (options.compressAnswers ?? true) ? compressMinBytes : Number.POSITIVE_INFINITY,
    maxMessageBytes,
    onError,
    jsonOptions: options.router?.jsonOptions,
  };
  const handle = (request: NodeRequest, response: NodeResponse, begun?: readonly Uint8Array[]): void => {
    const { method = 'GET', url = '/', headers } = request;
    const overHttp2 = request instanceof http2.Http2ServerRequest;
    const verdict = gate({ method, authority: overHttp2 ? request.authority || headers.host : headers.host, headers });
    for (const [name, value] of verdict.headers) {
      response.setHeader(name, value);
    }
    if (verdict.kind === 'preflight') {
      send(response, 204);
      return;
    }
    if (verdict.kind === 'refuse') {
      sendError(response, verdict.status, verdict.code, verdict.reason, verdict.message);
      return;
    }
    const query = url.indexOf('?');
    const path = query < 0 ? url : url.slice(0, query);
    const rpc = rpcs.get(path);
    if (overHttp2 && (rpc === undefined || !isStreamingRequest(rpc.method.methodKind))) {
      sessions.expectBody(request);
    }
    if (rpc !== undefined) {
      const unary = overHttp2 || begun !== undefined ? undefined : rpcs.getUnary(path);
      if (unary !== undefined && isPlainConnect(request as http.IncomingMessage, maxMessageBytes)) {
        serveUnaryRequest(unary, request as http.IncomingMessage, response as http.ServerResponse, lean, (begun) =>
          rpcs.handle(rpc, request, response, begun),
        );
        return;
      }
      rpcs.handle(rpc, request, response, begun);
    } else if (rpcs.hasServiceOf(path) || isRpcContent(headers['content-type'])) {
      unimplemented(path, headers['content-type'], response);
    } else {
      answerOther(request, response);
    }
  };

  const h2 = http2.createServer(
    {
      // Node's windows are 64 KiB: a message of some MB would take dozens of round trips.
      settings: { maxConcurrentStreams: 1024, initialWindowSize: 1024 * 1024 },
      // In MB for each session. Node's 10 refuses streams as soon as a few large messages are on their way.
      maxSessionMemory: 256,
    },
    (request, response) => handle(request, response),
  );
  // Node's own listener makes request and response out of a stream; calls that need neither pass it by.
  const serveStream = h2.listeners('stream')[0] as StreamListener;
  h2.removeListener('stream', serveStream);
  h2.on('stream', (stream, headers, flags, rawHeaders) => {
    const goOn = () => serveStream.call(h2, stream, headers, flags, rawHeaders);
    const path = headers[':path'] ?? '';
    const rpc = isGrpc(headers) ? (rpcs.getUnary(path) ?? rpcs.getStream(path)) : undefined;
    const isBidi = rpc !== undefined && 'kind' in rpc && rpc.kind === 'bidi_streaming';
    if (rpc === undefined || stream.endAfterHeaders || !(isBidi || isPlain(headers))) {
      goOn();
      return;
    }
    const verdict = gate({ method: 'POST', authority: headers[':authority'] || headers.host, headers });
    if (verdict.kind !== 'pass' || verdict.headers.length > 0) {
      goOn();
      return;
    }
    if (isBidi) {
      if (!serveBidiStream(rpc, stream, headers, lean)) goOn();
      return;
    }
    serveUnaryStream(rpc, stream, headers, { ...lean, sessions }, (begun) => {
      const request = new http2.Http2ServerRequest(stream, headers, {}, rawHeaders);
      handle(request, new http2.Http2ServerResponse(stream), begun);
    });
  });
  h2.on('session', (session) => session.setLocalWindowSize(8 * 1024 * 1024));
  const sessions = new Http2Sessions(h2, timing);

  const server = http.createServer(
    {
      headersTimeout: Math.min(timing.headersTimeoutMs, timing.requestTimeoutMs),
      requestTimeout: timing.requestTimeoutMs,
      keepAliveTimeout: timing.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(5_000, timing.headersTimeoutMs / 2),
      noDelay: true,
    },
    (request, response) => handle(request, response),
  );
  const sockets = new Set<Socket>();
  const silent = new Set<Socket>();
  const serveHttp1 = server.listeners('connection') as ((socket: Socket) => void)[];
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    silent.add(socket);
    socket.on('close', () => {
      sockets.delete(socket);
      silent.delete(socket);
    });
    sniffProtocol(socket, {
      silenceTimeoutMs: timing.silenceTimeoutMs,
      onHttp1(ready) {
        silent.delete(ready);
        for (const listener of serveHttp1) {
          listener.call(server, ready);
        }
      },
      onHttp2(ready) {
        silent.delete(ready);
        // An HTTP/1 server lets a peer end its side first. In HTTP/2 that peer is gone, and its session must end.
        ready.allowHalfOpen = false;
        h2.emit('connection', ready);
      },
    });
  });

  const { port } = await listen(server, host, options.port);

  let closed: Promise<void> | undefined;
  let cutTimer: NodeJS.Timeout | undefined;
  let cutAt = Number.POSITIVE_INFINITY;
  const cutNow = () => {
    cut.abort(new ConnectError('the server is closing', Code.Unavailable));
    cutTimer = setTimeout(() => {
      sessions.destroy();
      server.closeAllConnections();
      cutTimer = setTimeout(() => {
        for (const socket of sockets) {
          socket.destroy();
        }
      }, lastWordMs);
    }, lastWordMs);
  };
  return {
    host,
    port,
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    close({ graceMs = defaultGraceMs } = {}) {
      const at = performance.now() + graceMs;
      if (at < cutAt) {
        cutAt = at;
        clearTimeout(cutTimer);
        cutTimer = setTimeout(cutNow, graceMs);
      }
      closed ??= new Promise<void>((resolve) => {
        closing.abort();
        // A connection whose call has just ended is idle only then, and its peer would keep it open.
        const idle = setInterval(() => server.closeIdleConnections(), 20);
        server.close(() => {
          clearInterval(idle);
          clearTimeout(cutTimer);
          cutAt = Number.NEGATIVE_INFINITY;
          sessions.destroy();
          resolve();
        });
        server.closeIdleConnections();
        sessions.close();
        for (const socket of silent) {
          socket.destroy();
        }
      });
      return closed;
    },
  };
}

function listen(server: http.Server, host: string, port: number): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new PortTakenError(host, port, { cause: error })
          : new BindError(host, port, error.code ?? 'UNKNOWN', { cause: error }),
      );
    });
    server.listen({ host, port, backlog: 1024 }, () => {
      resolve(server.address() as AddressInfo);
    });
  });
}

function isStreamingRequest(kind: 'unary' | 'server_streaming' | 'client_streaming' | 'bidi_streaming'): boolean {
  return kind === 'client_streaming' || kind === 'bidi_streaming';
}
