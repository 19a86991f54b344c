import type { ClientHttp2Session } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { Http2SessionManager } from '@connectrpc/connect-node';

/** The states of the manager in connect-node 2.2.0, which it keeps to itself. */
type State =
  | { readonly t: 'closed' | 'error' }
  | { readonly t: 'connecting'; readonly conn: Promise<ClientHttp2Session>; abort(reason: Error): void }
  | { readonly t: 'ready'; readonly conn: ClientHttp2Session; isShuttingDown(): boolean };

interface Insides {
  s: State;
  setState(next: State): void;
}

/** Node's windows are 64 KiB: a lease with an input of a MiB would take a dozen round trips. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024;

/**
 * An Http2SessionManager whose connections never end the process, and of which there is one. Two things in connect-node make that
 * necessary. When a connection is given up (GOAWAY while idle, a failed ping, abort), the manager takes its listener off; the socket's
 * own error comes a turn later, and with nobody there to hear it Node makes an uncaught exception of it. And when a connection ends
 * while a ping asks whether it lives, a call may have begun a new one already when the ping's failure begins another: the first is
 * forgotten with neither listener nor end, and who waits for it waits until its deadline.
 */
export function guardedManager(...args: ConstructorParameters<typeof Http2SessionManager>): Http2SessionManager {
  const [url, options, sessionOptions] = args;
  const settings = { initialWindowSize: STREAM_WINDOW_BYTES, ...sessionOptions?.settings };
  const manager = new Http2SessionManager(url, options, { ...sessionOptions, settings });
  const insides = manager as unknown as Insides;
  const setState = insides.setState.bind(manager);
  insides.setState = (next) => {
    if (next.t === 'ready') {
      next.conn.on('error', () => {});
      next.conn.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    }
    if (next.t === 'connecting' && isUsable(insides.s)) {
      next.conn.catch(() => {});
      next.abort(new ConnectError('there is a connection already', Code.Unavailable));
      return;
    }
    setState(next);
  };
  return manager;
}

function isUsable(state: State): boolean {
  if (state.t === 'connecting') return true;
  return state.t === 'ready' && !state.conn.closed && !state.conn.destroyed && !state.isShuttingDown();
}
