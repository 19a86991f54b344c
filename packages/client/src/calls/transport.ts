import { Code, ConnectError, type Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { directCalls } from './direct-calls.ts';
import { type Compression, limitedFetch } from './wire.ts';

export interface TransportOptions {
  /** Where the master is, e.g. `http://127.0.0.1:7800`. */
  readonly url: string;
  /** The `fetch` to call with. Default the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** Default `auto`. */
  readonly compression?: Compression;
  /** The largest answer, or message of a stream, in bytes after decompression. Default 64 MiB. */
  readonly maxMessageBytes?: number;
}

const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/**
 * Connect's protocol in binary over `fetch`: the one way that browsers, Deno, Node and workerd have in common. In Node, unary calls to a
 * master on the same machine go over sockets of their own, at a tenth of the cost, unless a `fetch` is given or set.
 */
export function createFetchTransport(options: TransportOptions): Transport {
  const { url, compression = 'auto', maxMessageBytes = MAX_MESSAGE_BYTES } = options;
  const fetch = reportingUnavailable(options.fetch ?? ((input, init) => globalThis.fetch(input, init)));
  const transport = createConnectTransport({
    baseUrl: url.replace(/\/+$/, ''),
    useBinaryFormat: true,
    fetch: limitedFetch(fetch, url, { compression, maxMessageBytes }),
  });
  const direct = options.fetch === undefined && compression !== 'gzip' ? directCalls(url, maxMessageBytes) : undefined;
  if (direct === undefined) return transport;
  return {
    ...transport,
    unary: (...call) => (direct.isUsable() ? direct.unary(...call) : transport.unary(...call)),
  };
}

/** `fetch` says "could not connect" in as many ways as there are runtimes; all of them are `unavailable`. */
function reportingUnavailable(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
  return async (input, init) => {
    try {
      // workerd knows no redirect: 'error'. With 'manual' a redirect is an answer that is no Connect answer: refused too.
      return await fetch(input, { ...init, redirect: 'manual' });
    } catch (thrown) {
      if (init?.signal?.aborted) throw thrown;
      throw new ConnectError(connectFailureText(thrown), Code.Unavailable, undefined, undefined, thrown);
    }
  };
}

function connectFailureText(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  // Node says "fetch failed" and keeps the reason in `cause`, for two addresses in `cause.errors`.
  const cause = thrown.cause instanceof AggregateError ? thrown.cause.errors[0] : thrown.cause;
  return cause instanceof Error && cause.message !== '' ? cause.message : thrown.message;
}
