import { connect } from 'node:net';
import { guardedManager } from '@baton/runtime';
import { Code, ConnectError, type Transport } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';

const connectTimeoutMs = 5_000;
/**
 * Servers built on gRPC's core cut a connection, with the calls on it, that pings more often than every five minutes
 * while no data flows. A peer whose machine is gone is found out by the keep-alive of TCP before that.
 */
const pingIntervalMs = 310_000;
const pingTimeoutMs = 20_000;
const tcpKeepAliveMs = 15_000;
/** A response is the output of a task; more is cut off by the limit on results anyway. */
const maxResponseBytes = 16 * 1024 * 1024;
const maxConnections = 256;

export interface ServiceConnection {
  readonly transport: Transport;
  /** Resolves when a connection is there; rejects with `ConnectError` UNAVAILABLE, a refused one at once. */
  ready(): Promise<void>;
  readonly busy: boolean;
  close(): void;
}

/** One HTTP/2 connection per address, shared by all calls to it, opened when it is needed. */
export class ServiceConnections {
  readonly #connections = new Map<string, ServiceConnection>();

  /** `address`: host:port. */
  get(address: string): ServiceConnection {
    const connection = this.#connections.get(address) ?? open(address);
    // Behind the others: the one that was not used for longest is the first.
    this.#connections.delete(address);
    this.#connections.set(address, connection);
    if (this.#connections.size > maxConnections) {
      this.#closeOldestIdle();
    }
    return connection;
  }

  close(): void {
    for (const connection of this.#connections.values()) {
      connection.close();
    }
    this.#connections.clear();
  }

  #closeOldestIdle(): void {
    for (const [address, connection] of this.#connections) {
      if (!connection.busy) {
        connection.close();
        this.#connections.delete(address);
        return;
      }
    }
  }
}

function open(address: string): ServiceConnection {
  const baseUrl = `http://${address}`;
  const sessionManager = guardedManager(
    baseUrl,
    { pingIntervalMs, pingTimeoutMs },
    {
      createConnection: ({ hostname, port }) =>
        connect({
          host: hostname.replace(/^\[(.*)\]$/, '$1'),
          port: Number(port === '' ? 80 : port),
          noDelay: true,
          keepAlive: true,
          keepAliveInitialDelay: tcpKeepAliveMs,
        }),
    },
  );
  return {
    transport: createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: maxResponseBytes }),
    async ready() {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<'late'>((resolve) => {
        timer = setTimeout(() => resolve('late'), connectTimeoutMs);
      });
      const state = await Promise.race([sessionManager.connect(), late]);
      clearTimeout(timer);
      if (state === 'late') {
        sessionManager.abort();
        throw new ConnectError(`no connection within ${connectTimeoutMs} ms`, Code.Unavailable);
      }
      if (state === 'error') {
        const error = ConnectError.from(sessionManager.error());
        throw new ConnectError(error.rawMessage, Code.Unavailable, undefined, undefined, error);
      }
    },
    get busy() {
      return sessionManager.state() === 'open' || sessionManager.state() === 'connecting';
    },
    close: () => sessionManager.abort(),
  };
}
