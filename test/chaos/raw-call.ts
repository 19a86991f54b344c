import { MasterService } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { guardedManager } from '@baton/runtime';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';

export type RawMaster = Client<typeof MasterService>;

/** MasterService of one master, called as any program could call it. */
export function openRaw(url: string): RawMaster {
  const sessionManager = guardedManager(url, { pingIntervalMs: 1_000, pingTimeoutMs: 1_000 });
  return createClient(MasterService, createGrpcTransport({ baseUrl: url, sessionManager, acceptCompression: [] }));
}

/** The stable reason of a refusal, e.g. SESSION_LOST; undefined when the error is no refusal (nobody answered). */
export function refusalOf(error: unknown): string | undefined {
  const failed = ConnectError.from(error);
  const { code } = failed;
  if (code !== Code.FailedPrecondition && code !== Code.InvalidArgument && code !== Code.NotFound) return undefined;
  return failed.findDetails(errorDetails.ErrorInfoSchema)[0]?.reason || Code[code];
}
