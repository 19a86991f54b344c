import type { ClientHttp2Session } from 'node:http2';
import { MasterService } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';

export type RawMaster = Client<typeof MasterService>;

/** MasterService of one master, called as any program could call it. */
export function openRaw(url: string): RawMaster {
  const sessionManager = new GuardedSessions(url, { pingIntervalMs: 1_000, pingTimeoutMs: 1_000 });
  return createClient(MasterService, createGrpcTransport({ baseUrl: url, sessionManager, acceptCompression: [] }));
}

/**
 * connect-node takes its error listener off a session that it leaves, and the session's error may come a tick later: then it is
 * nobody's, and ends the process.
 */
class GuardedSessions extends Http2SessionManager {
  readonly #guarded = new WeakSet<ClientHttp2Session>();

  override async request(...call: Parameters<Http2SessionManager['request']>) {
    const stream = await super.request(...call);
    const session = stream.session as ClientHttp2Session | undefined;
    if (session && !this.#guarded.has(session)) {
      this.#guarded.add(session);
      session.on('error', () => {});
    }
    return stream;
  }
}

/** The stable reason of a refusal, e.g. SESSION_LOST; undefined when the error is no refusal (nobody answered). */
export function refusalOf(error: unknown): string | undefined {
  const failed = ConnectError.from(error);
  const { code } = failed;
  if (code !== Code.FailedPrecondition && code !== Code.InvalidArgument && code !== Code.NotFound) return undefined;
  return failed.findDetails(errorDetails.ErrorInfoSchema)[0]?.reason || Code[code];
}
