import { errorDetails } from '@baton/contract/grpc';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { type FieldPath, ViolationsSchema } from '@bufbuild/protovalidate/gen/buf/validate/validate_pb.js';
import { Code, ConnectError } from '@connectrpc/connect';
import { isNamed } from '../error-name.ts';

/** The codes of Connect and gRPC, as words. */
export type BatonErrorCode =
  | 'canceled'
  | 'unknown'
  | 'invalid_argument'
  | 'deadline_exceeded'
  | 'not_found'
  | 'already_exists'
  | 'permission_denied'
  | 'resource_exhausted'
  | 'failed_precondition'
  | 'aborted'
  | 'out_of_range'
  | 'unimplemented'
  | 'internal'
  | 'unavailable'
  | 'data_loss'
  | 'unauthenticated';

/** One thing that is wrong with a request. `field` is its path, e.g. `task.kind`; '' is the whole request. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/**
 * A call that did not succeed. The only class that calls of this package reject with, besides `TaskFailed`,
 * `TaskCancelled`, `RunFailed` and `RunCancelled` of `result()`.
 */
export class BatonError extends Error {
  override readonly name = 'BatonError';
  readonly code: BatonErrorCode;
  /** Stable and made for programs, e.g. TASK_NOT_FOUND, IDEMPOTENCY_CONFLICT; '' where the server gave none. */
  readonly reason: string;
  /** Everything that is wrong with the request; empty where it is not the request. */
  readonly violations: readonly Violation[];
  /** How long the server asks to wait before another try. */
  readonly retryAfterMs?: number;
  /** What the server says besides, by name, e.g. the id of what was not found. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(init: {
    readonly code: BatonErrorCode;
    readonly reason?: string;
    readonly message: string;
    readonly violations?: readonly Violation[];
    readonly retryAfterMs?: number;
    readonly metadata?: Readonly<Record<string, string>>;
    readonly cause?: unknown;
  }) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.reason = init.reason ?? '';
    this.violations = init.violations ?? [];
    if (init.retryAfterMs !== undefined) this.retryAfterMs = init.retryAfterMs;
    this.metadata = init.metadata ?? {};
  }

  /** One of another copy of this package is one, too: worker, command and program may each have their own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isNamed(value, 'BatonError');
  }
}

const CODES: Readonly<Record<number, BatonErrorCode>> = {
  [Code.Canceled]: 'canceled',
  [Code.Unknown]: 'unknown',
  [Code.InvalidArgument]: 'invalid_argument',
  [Code.DeadlineExceeded]: 'deadline_exceeded',
  [Code.NotFound]: 'not_found',
  [Code.AlreadyExists]: 'already_exists',
  [Code.PermissionDenied]: 'permission_denied',
  [Code.ResourceExhausted]: 'resource_exhausted',
  [Code.FailedPrecondition]: 'failed_precondition',
  [Code.Aborted]: 'aborted',
  [Code.OutOfRange]: 'out_of_range',
  [Code.Unimplemented]: 'unimplemented',
  [Code.Internal]: 'internal',
  [Code.Unavailable]: 'unavailable',
  [Code.DataLoss]: 'data_loss',
  [Code.Unauthenticated]: 'unauthenticated',
};

const CODE_NAMES = new Set<string>(Object.values(CODES));

/** A code as the contract's refusals spell it; 'unknown' for a word that is none. */
export function codeFromName(name: string): BatonErrorCode {
  return CODE_NAMES.has(name) ? (name as BatonErrorCode) : 'unknown';
}

/** Whatever was thrown by a call, as a `BatonError`. Total: never throws, and gives a `BatonError` back as it is. */
export function toBatonError(thrown: unknown): BatonError {
  if (thrown instanceof BatonError) return thrown;
  const error = ConnectError.from(thrown);
  const info = error.findDetails(errorDetails.ErrorInfoSchema)[0];
  const retry = error.findDetails(errorDetails.RetryInfoSchema)[0];
  const violations: Violation[] = [];
  for (const detail of error.findDetails(errorDetails.BadRequestSchema)) {
    for (const { field, description } of detail.fieldViolations) violations.push({ field, description });
  }
  for (const detail of error.findDetails(errorDetails.PreconditionFailureSchema)) {
    for (const { subject, description } of detail.violations) violations.push({ field: subject, description });
  }
  for (const detail of error.findDetails(ViolationsSchema)) {
    for (const { field, message } of detail.violations) {
      violations.push({ field: field ? fieldPathText(field) : '', description: message });
    }
  }
  const brokenOff = isBrokenOff(error);
  return new BatonError({
    code: brokenOff ? 'unavailable' : (CODES[error.code] ?? 'unknown'),
    reason: info?.reason ?? (brokenOff ? 'CONNECTION_LOST' : ''),
    message: error.rawMessage,
    violations,
    metadata: { ...info?.metadata },
    ...(retry?.retryDelay && { retryAfterMs: durationMs(retry.retryDelay) }),
    cause: thrown,
  });
}

/**
 * Whether the connection ended within an answer. Such errors arise on this side: `fetch` reports a network error while a
 * body is read as a TypeError, and Connect's transport throws a string when a stream ends without its last frame.
 */
function isBrokenOff(error: ConnectError): boolean {
  return error.code === Code.Unknown && (error.cause instanceof TypeError || typeof error.cause === 'string');
}

function fieldPathText(path: FieldPath): string {
  let text = '';
  for (const { fieldName, subscript } of path.elements) {
    text += text === '' ? fieldName : `.${fieldName}`;
    if (subscript.case === 'stringKey') text += `[${JSON.stringify(subscript.value)}]`;
    else if (subscript.case !== undefined) text += `[${subscript.value}]`;
  }
  return text;
}
