import { Http2SessionManager } from '@connectrpc/connect-node';

/**
 * An Http2SessionManager whose connections never end the process. When a connection is given up (GOAWAY while idle, a failed ping,
 * abort), the manager of connect-node takes its listener off; the socket's own error comes a turn later, and with nobody there to
 * hear it Node makes an uncaught exception of it.
 */
export function guardedManager(...args: ConstructorParameters<typeof Http2SessionManager>): Http2SessionManager {
  const manager = new Http2SessionManager(...args);
  const guarded = new WeakSet<object>();
  const request = manager.request.bind(manager);
  manager.request = async (...call) => {
    const stream = await request(...call);
    const session = stream.session;
    if (session && !guarded.has(session)) {
      guarded.add(session);
      session.on('error', () => {});
    }
    return stream;
  };
  return manager;
}
