import type http from 'node:http';
import type http2 from 'node:http2';
import type { DescService } from '@bufbuild/protobuf';
import type { ConnectRouter, ConnectRouterOptions, Interceptor } from '@connectrpc/connect';
import type { HealthSource } from './health.ts';

/** Receives what went wrong and was not the caller's fault; `where` names the RPC, or says `fetch`. */
export type OnError = (error: unknown, where: string) => void;

/**
 * What a caller may say about decoding, and about calls that are refused before any interceptor sees them. `requestGate` watches and
 * refuses nothing: of a unary call that was decoded it hears only if that fails.
 */
export type RouterOptions = Pick<ConnectRouterOptions, 'requestGate' | 'jsonOptions'>;

/** What handlers are told about the server they run in. */
export interface ServerContext {
  /**
   * Fires when `close` begins. What waits (long polls, watches, event streams) should end then by itself; what works
   * has the grace period.
   */
  closing: AbortSignal;
}

/** What `fetch` receives beside the request; Hono hands it on as `c.env`. */
export interface FetchEnvironment extends ServerContext {
  incoming: http.IncomingMessage | http2.Http2ServerRequest;
  outgoing: http.ServerResponse | http2.Http2ServerResponse;
}

/** All in milliseconds. */
export interface ServerTiming {
  /** A connection that says nothing is destroyed. Default 10 000. */
  silenceTimeoutMs: number;
  /** The time for all headers of an HTTP/1 request. Default 10 000. */
  headersTimeoutMs: number;
  /** The time for a whole request with its body, streams over HTTP/2 excepted. Default 120 000. */
  requestTimeoutMs: number;
  /** How long an idle HTTP/1 connection is kept. Default 75 000: longer than clients wait between two heartbeats. */
  keepAliveTimeoutMs: number;
  /** An HTTP/2 connection that says nothing for so long, or has no open stream, is pinged. Default 20 000. */
  pingIntervalMs: number;
  /** An HTTP/2 connection that leaves a ping unanswered for so long is destroyed. Default 10 000. */
  pingTimeoutMs: number;
}

export interface ServeOptions {
  /** Default 127.0.0.1. Not checked here: see `assertLoopback`. */
  host?: string;
  /** 0: any free port. */
  port: number;
  /** Registers the RPCs. Health and reflection are registered by `serve`. */
  routes: (router: ConnectRouter, context: ServerContext) => void;
  /** The services that `routes` registers, for health and reflection. */
  services: readonly DescService[];
  /** Answers whatever is no RPC; `app.fetch` of a Hono app fits. Without it: 404. */
  fetch?: (request: Request, environment: FetchEnvironment) => Response | Promise<Response>;
  /** Outermost first. */
  interceptors?: readonly Interceptor[];
  /** Given to Connect's router. Default: unknown JSON fields are refused. */
  router?: RouterOptions;
  /** Default: `createHealth(services)`, all SERVING. NOT_SERVING once `close` begins, whatever it says. */
  health?: HealthSource;
  /** Exact origins (`http://localhost:5173`) whose pages may call, beside the server's own. Default 'none'. */
  corsOrigins?: readonly string[] | 'none';
  /** Names, without port, under which the server may be addressed, beside `host` and the names of loopback. */
  allowedHosts?: readonly string[];
  /** The largest message read, in bytes, after decompression. Default 4 MiB and 64 KiB for what surrounds it. */
  maxMessageBytes?: number;
  /** Whether answers from 1 KiB on are compressed (gzip) for those who ask for it. Default true. Compressed requests are always read. */
  compressAnswers?: boolean;
  timing?: Partial<ServerTiming>;
  /** Receives defects: what handlers throw that is no ConnectError, what `fetch` throws. Default: standard error. */
  onError?: OnError;
}

export interface CloseOptions {
  /** How long calls in flight may go on before they are cut. Default 10 000. */
  graceMs?: number;
}

export interface RunningServer {
  readonly host: string;
  readonly port: number;
  /** Such as `http://127.0.0.1:7800`. */
  readonly url: string;
  /**
   * Stops accepting, tells peers to go, lets calls in flight finish, and cuts what is left after `graceMs`. Resolves
   * when the last connection is gone. A further call joins the first, and brings the cut forward if its grace is shorter.
   */
  close(options?: CloseOptions): Promise<void>;
}
