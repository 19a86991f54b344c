import { FailureType } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import type { FailureReport } from '@baton/runtime';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';

/** Whom a call is for. */
export interface CallTarget {
  readonly address: string;
  readonly service: string;
  readonly method: string;
}

const neverHelps = new Set([Code.InvalidArgument, Code.Unimplemented]);

/** A call that did not end well, as a failure: the network's, the deadline's, or the service's own word. */
export function failureOfCall(thrown: unknown, { address, service, method }: CallTarget): FailureReport {
  const error = ConnectError.from(thrown);
  const code = codeName(error.code);
  if (isNetwork(error)) {
    return {
      type: FailureType.NETWORK_ERROR,
      message: `cannot reach ${service} at ${address}: ${networkReason(error)}`,
      exceptionType: code,
      retryAfterMs: retryDelay(error),
    };
  }
  if (error.code === Code.DeadlineExceeded) {
    const message = `${service}/${method} at ${address} did not answer in time`;
    return { type: FailureType.TASK_TIMEOUT, message, exceptionType: code };
  }
  return {
    type: FailureType.EVALUATION_ERROR,
    message: `${service}/${method} at ${address} answered ${code}: ${error.rawMessage}`,
    exceptionType: code,
    nonRetryable: neverHelps.has(error.code),
    retryAfterMs: retryDelay(error),
  };
}

/** As gRPC writes it: NOT_FOUND. */
export function codeName(code: Code): string {
  const name = Code[code] ?? 'Unknown';
  return name === 'Canceled' ? 'CANCELLED' : name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();
}

/** The service said so itself (UNAVAILABLE), or there was no service to say anything. */
function isNetwork(error: ConnectError): boolean {
  return (
    error.code === Code.Unavailable ||
    systemCode(error) !== undefined ||
    // A stream that was reset, or that ended without a status: the process behind it went away.
    /^http\/2 stream closed|missing (trailer|status)|connection (closed|aborted)|lost connection/i.test(
      error.rawMessage,
    )
  );
}

function networkReason(error: ConnectError): string {
  const code = systemCode(error);
  switch (code) {
    case undefined:
      return error.rawMessage;
    case 'ECONNREFUSED':
      return 'connection refused';
    case 'ENOTFOUND':
      return 'the host name is not known';
    default:
      return `${error.rawMessage} (${code})`;
  }
}

/** The code of a Node.js error behind this one: ECONNREFUSED, ERR_HTTP2_STREAM_ERROR, … */
function systemCode(error: unknown): string | undefined {
  for (let depth = 0, at = error; at instanceof Error && depth < 10; depth++, at = at.cause) {
    const code = 'code' in at ? at.code : undefined;
    if (typeof code === 'string') {
      return code;
    }
    // Several addresses of one host, none reached.
    if (at instanceof AggregateError && at.errors.length > 0) {
      return systemCode(at.errors[0]);
    }
  }
  return undefined;
}

function retryDelay(error: ConnectError): number | undefined {
  const delay = error.findDetails(errorDetails.RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? undefined : durationMs(delay);
}
