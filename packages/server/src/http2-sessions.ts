import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';

export interface Http2Timing {
  /** A session that has read nothing for so long, or has no open stream, is pinged. */
  pingIntervalMs: number;
  /** A session that does not answer its ping within this time is destroyed. */
  pingTimeoutMs: number;
  /** The time in which a request that is not itself a stream must have arrived in full. */
  requestTimeoutMs: number;
}

/** A request whose body is on its way. */
export interface Incoming {
  readonly stream: ServerHttp2Stream;
  /** Everything is there. */
  readonly complete: boolean;
}

/**
 * What node's HTTP/2 server leaves to its user: finding peers that vanished without a word, cutting requests whose body
 * never ends, and closing all sessions in an orderly way. Plain `http.Server` has all of it built in.
 */
export class Http2Sessions {
  readonly #timing: Http2Timing;
  readonly #sessions = new Map<ServerHttp2Session, SessionState>();
  readonly #incomplete = new Map<Incoming, number>();
  readonly #sweep: NodeJS.Timeout;

  constructor(server: Http2Server, timing: Http2Timing) {
    this.#timing = timing;
    server.on('session', (session) => this.#watch(session));
    this.#sweep = setInterval(() => this.#cutSlowRequests(), Math.min(5_000, timing.requestTimeoutMs / 2)).unref();
  }

  /** From now on this request's body has `requestTimeoutMs` to arrive. Not for requests that are streams themselves. */
  expectBody(request: Incoming): void {
    if (!request.stream.endAfterHeaders) {
      this.#incomplete.set(request, performance.now());
      request.stream.once('close', () => this.#incomplete.delete(request));
    }
  }

  /** For those who know it before the answer. */
  bodyArrived(request: Incoming): void {
    this.#incomplete.delete(request);
  }

  /** GOAWAY to every peer; each session ends when its open streams have. */
  close(): void {
    for (const session of this.#sessions.keys()) {
      session.close();
    }
  }

  /** Ends every session now, open streams included. */
  destroy(): void {
    clearInterval(this.#sweep);
    for (const session of this.#sessions.keys()) {
      session.destroy();
    }
  }

  #watch(session: ServerHttp2Session): void {
    const state: SessionState = {
      bytesRead: 0,
      streams: 0,
      timer: setInterval(() => this.#beat(session, state), this.#timing.pingIntervalMs),
    };
    state.timer.unref();
    this.#sessions.set(session, state);
    session.on('stream', (stream) => {
      state.streams++;
      stream.once('close', () => state.streams--);
    });
    session.on('close', () => {
      clearInterval(state.timer);
      clearTimeout(state.dead);
      this.#sessions.delete(session);
    });
    // A peer that resets or sends nonsense ends its own session (node closes it), and nothing else.
    session.on('error', () => session.destroy());
  }

  #beat(session: ServerHttp2Session, state: SessionState): void {
    if (session.destroyed) {
      return;
    }
    const bytesRead = session.socket.bytesRead;
    const isHeard = bytesRead !== state.bytesRead;
    state.bytesRead = bytesRead;
    // Bytes alone are no sign of life: of headers that come one byte a second nothing can ever be served. Whoever is in the midst of a
    // frame cannot answer a ping; a stream whose body is slow has a time limit of its own.
    if (state.dead !== undefined || (isHeard && state.streams > 0)) {
      return;
    }
    const alive = () => {
      clearTimeout(state.dead);
      state.dead = undefined;
    };
    state.dead = setTimeout(() => {
      // After a stall of our own (a stopped process, a long computation) this timer runs before the answer, which may
      // have arrived long ago, is read. One turn of the event loop lets it be heard.
      setImmediate(() => setImmediate(() => state.dead !== undefined && session.destroy()));
    }, this.#timing.pingTimeoutMs).unref();
    session.ping((error) => {
      if (error === null) {
        alive();
      }
    });
  }

  #cutSlowRequests(): void {
    const limit = performance.now() - this.#timing.requestTimeoutMs;
    // In order of arrival, so the first young one ends the walk.
    for (const [request, since] of this.#incomplete) {
      if (since > limit) {
        break;
      }
      this.#incomplete.delete(request);
      if (!request.complete) {
        request.stream.close(8 /* CANCEL */);
      }
    }
  }
}

interface SessionState {
  bytesRead: number;
  /** Open ones. */
  streams: number;
  timer: NodeJS.Timeout;
  /** Set while a ping is unanswered. */
  dead?: NodeJS.Timeout;
}
