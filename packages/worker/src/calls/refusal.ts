import { errorDetails } from '@baton/contract/grpc';
import { Code, type ConnectError } from '@connectrpc/connect';

/** The stable reason that an error of the master carries, such as SESSION_LOST. */
export function reasonOf(error: ConnectError): string | undefined {
  return error.findDetails(errorDetails.ErrorInfoSchema)[0]?.reason;
}

/**
 * Whether the master says that the session is over: the reason, or undefined for every other error. A session is lost
 * for good, all other errors are worth another try.
 */
export function sessionRefusal(error: ConnectError): string | undefined {
  const reason = reasonOf(error);
  if (reason === 'SESSION_LOST' || error.code === Code.FailedPrecondition) {
    return reason ?? 'SESSION_LOST';
  }
  return undefined;
}

/** One line for logs: the code and the reason or message of an error. */
export function describe(error: ConnectError): string {
  const reason = reasonOf(error);
  return reason === undefined ? error.message : `[${reason}] ${error.message}`;
}

/** Codes by which a master says no. All others are of the moment: it is away, busy, of a version that is about to go, or the connection broke. */
const verdicts: readonly Code[] = [
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.FailedPrecondition,
  Code.ResourceExhausted,
  Code.PermissionDenied,
  Code.Unauthenticated,
  Code.OutOfRange,
];

/** Whether a master says no, and will say no again. */
export function isVerdict(error: ConnectError): boolean {
  return verdicts.includes(error.code) && reasonOf(error) !== 'STATEMENT_TIMEOUT';
}
