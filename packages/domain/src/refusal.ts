/** The Connect codes that Baton's own refusals use. */
export type RefusalCode =
  | 'invalid_argument'
  | 'not_found'
  | 'already_exists'
  | 'failed_precondition'
  | 'permission_denied'
  | 'resource_exhausted'
  | 'unavailable'
  | 'unimplemented';

export interface FieldViolation {
  /** Path of the field in the request, e.g. task.retry.max_attempts. */
  field: string;
  description: string;
}

/** A request that was understood and refused, with nothing changed. `reason` is stable and documented in docs/reference/errors.md. */
export class Refusal extends Error {
  readonly code: RefusalCode;
  readonly reason: string;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(
    code: RefusalCode,
    reason: string,
    message: string,
    more: { violations?: readonly FieldViolation[]; retryAfterMs?: number; metadata?: Record<string, string> } = {},
  ) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.reason = reason;
    this.violations = more.violations ?? [];
    this.retryAfterMs = more.retryAfterMs;
    this.metadata = more.metadata ?? {};
  }
}

/** The session was closed, replaced or never existed: register anew. */
export function sessionLost(sessionId: string): Refusal {
  return new Refusal('failed_precondition', 'SESSION_LOST', `session ${sessionId} is over; register anew`);
}

export function notFound(what: string, id: string): Refusal {
  return new Refusal('not_found', `${what.toUpperCase()}_NOT_FOUND`, `${what} ${id} does not exist in this namespace`);
}
