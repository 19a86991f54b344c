import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { delayLine } from './delay-line.ts';
import { framingOf, type ProxyProtocol } from './fault-proxy-framing.ts';

export interface FaultProxyOptions {
  /** Where connections go. May be a function, for a server that comes back elsewhere. Host default 127.0.0.1. */
  readonly target: Target | (() => Target);
  /** What travels: needed to lose the answer of one call. Default 'http2'. */
  readonly protocol?: ProxyProtocol;
}

export interface Target {
  readonly host?: string;
  readonly port: number;
}

/** Which answer is lost. */
export interface AnswerChoice {
  /** The call's request has at least so many bytes. Default 0. */
  readonly requestBytes?: number;
  /** The answer has at least so many bytes (with HTTP/2: of message in one frame). Default 0. */
  readonly answerBytes?: number;
}

/**
 * A TCP proxy on 127.0.0.1 that fails in the ways that networks do. What has gone wrong for a connection stays wrong for it;
 * `heal` is for those that come after, and for paused ones.
 */
export interface FaultProxy extends AsyncDisposable {
  readonly port: number;
  /** http://127.0.0.1:port */
  readonly url: string;
  /** Connections open towards clients now. */
  readonly open: number;
  /** Connections taken since the start, refused ones left out. */
  readonly accepted: number;
  /** Nothing moves either way, nothing is lost; until `heal`. New connections wait too. */
  pause(): void;
  /** All that travels on the connections of now is thrown away, and neither side hears of it: half-open TCP. */
  blackHole(options?: { newToo?: boolean }): void;
  /** Cuts all connections with RST. Returns how many. */
  reset(): number;
  /** New connections are cut with RST at once; until `heal`. Those of now go on. */
  refuse(): void;
  /**
   * Lets the next call that fits go through and, when its answer comes, throws that away and cuts its connection: the
   * server has done what the client will never know. Resolves when it has happened.
   */
  loseAnswer(choice?: AnswerChoice): Promise<void>;
  /** Loses no more answers: what was asked for and has not happened will not happen (and never resolves). */
  disarm(): void;
  /** Everything takes so much longer, each way, on all connections; until `heal`, or 0. */
  slow(delayMs: number): void;
  /** Ends pause, refuse, slowness, and black holes for new connections. */
  heal(): void;
  /** Cuts everything and gives the port back. */
  close(): Promise<void>;
}

interface Connection {
  readonly client: Socket;
  readonly server: Socket;
  dead: boolean;
}

interface Trap extends Required<AnswerChoice> {
  readonly sprung: () => void;
}

/** Starts a proxy on a free port. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const { target, protocol = 'http2' } = options;
  const connections = new Set<Connection>();
  const traps = new Set<Trap>();
  let accepted = 0;
  let paused = false;
  let refusing = false;
  let swallowing = false;
  let delayMs = 0;

  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    client.on('error', () => {});
    if (refusing) {
      client.resetAndDestroy();
      return;
    }
    accepted++;
    const { host = '127.0.0.1', port } = typeof target === 'function' ? target() : target;
    const server = connect({ host, port, allowHalfOpen: true });
    const connection: Connection = { client, server, dead: swallowing };
    connections.add(connection);
    join(connection);
    if (!paused) client.resume();
    else server.pause();
  });

  function join(connection: Connection): void {
    const { client, server } = connection;
    const requests = framingOf(protocol, 'request');
    const answers = framingOf(protocol, 'answer');
    const there = delayLine(() => delayMs);
    const back = delayLine(() => delayMs);
    /** Bytes of the calls under way. */
    const asked = new Map<number, number>();

    client.on('data', (bytes) => {
      if (connection.dead) return;
      for (const piece of requests.feed(bytes)) {
        if (piece.what === 'message') asked.set(piece.call, (asked.get(piece.call) ?? 0) + piece.size);
      }
      there.carry(() => forward(connection, client, server, bytes));
    });
    server.on('data', (bytes) => {
      if (connection.dead) return;
      for (const piece of answers.feed(bytes)) {
        const sprung = [...traps].find((trap) => isCaught(trap, piece, asked.get(piece.call) ?? 0));
        if (sprung) {
          traps.delete(sprung);
          cut(connection);
          sprung.sprung();
          return;
        }
        if (piece.what === 'end') asked.delete(piece.call);
      }
      back.carry(() => forward(connection, server, client, bytes));
    });
    for (const [one, other, line] of [
      [client, server, there],
      [server, client, back],
    ] as const) {
      // Half-open means that an end on one side is not heard on the other.
      one.on('end', () => line.carry(() => connection.dead || other.end()));
      one.on('error', () => connection.dead || other.resetAndDestroy());
      one.on('close', () => {
        line.carry(() => {
          if (!connection.dead && !other.destroyed) other.destroySoon();
        });
        if (client.destroyed && server.destroyed) connections.delete(connection);
      });
    }
  }

  function isCaught(trap: Trap, piece: { what: string; size: number }, requestBytes: number): boolean {
    // In Postgres the answer is complete, and the statement committed, with the message that ends it.
    const isAnswer = protocol === 'postgres' ? piece.what === 'end' : piece.what === 'message';
    const size = protocol === 'postgres' ? Number.POSITIVE_INFINITY : piece.size;
    return isAnswer && size >= trap.answerBytes && requestBytes >= trap.requestBytes;
  }

  function forward(connection: Connection, from: Socket, to: Socket, bytes: Uint8Array): void {
    if (connection.dead || to.destroyed || to.write(bytes) || paused) return;
    from.pause();
    to.once('drain', () => paused || from.resume());
  }

  function cut(connection: Connection): void {
    connection.dead = true;
    connection.client.resetAndDestroy();
    connection.server.resetAndDestroy();
    connections.delete(connection);
  }

  function reset(): number {
    const all = [...connections];
    for (const connection of all) cut(connection);
    return all.length;
  }

  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;

  async function close(): Promise<void> {
    reset();
    if (!listener.listening) return;
    const closed = once(listener, 'close');
    listener.close();
    await closed;
  }

  return {
    port,
    url: `http://127.0.0.1:${port}`,
    get open() {
      return [...connections].filter(({ client }) => !client.destroyed).length;
    },
    get accepted() {
      return accepted;
    },
    pause() {
      paused = true;
      for (const { client, server } of connections) {
        client.pause();
        server.pause();
      }
    },
    blackHole({ newToo = false } = {}) {
      swallowing = newToo;
      for (const connection of connections) connection.dead = true;
    },
    reset,
    refuse() {
      refusing = true;
    },
    loseAnswer(choice = {}) {
      return new Promise((resolve) => {
        traps.add({ requestBytes: choice.requestBytes ?? 0, answerBytes: choice.answerBytes ?? 0, sprung: resolve });
      });
    },
    disarm: () => traps.clear(),
    slow(ms) {
      delayMs = ms;
    },
    heal() {
      delayMs = 0;
      paused = false;
      refusing = false;
      swallowing = false;
      for (const { client, server } of connections) {
        client.resume();
        server.resume();
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
