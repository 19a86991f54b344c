// Thrown by a task's code to say what is to happen next. The worker knows them by `name`, so that a task may throw those
// of another copy of this package.

/** The attempt failed and no further one makes sense: the task fails now, whatever its retry policy says. */
export class NonRetryable extends Error {
  override readonly name = 'NonRetryable';
}

/** The attempt failed; the next one is due after `delayMs` instead of the policy's delay. It still counts as an attempt. */
export class RetryAfter extends Error {
  override readonly name = 'RetryAfter';
  readonly delayMs: number;

  /** `delayMs`: milliseconds, 0 or more. */
  constructor(delayMs: number, message = `asked to be retried after ${delayMs} ms`, options?: ErrorOptions) {
    super(message, options);
    this.delayMs = delayMs;
  }
}

/**
 * The attempt failed, and its type says whose fault it is: retries have a budget for each, and the circuit breakers of workers and
 * devices count what machines do wrong.
 *
 * - `NETWORK_ERROR`: a service that the task calls could not be reached.
 * - `GPU_ERROR`: the device failed; name it by `device` (its UUID), so that it alone is quarantined.
 * - `OUT_OF_MEMORY`: tried once more, on a machine with more memory.
 * - `EVALUATION_ERROR`, `UNKNOWN`: like any other error that is thrown.
 */
export class AttemptFailure extends Error {
  override readonly name = 'AttemptFailure';
  readonly type: 'NETWORK_ERROR' | 'GPU_ERROR' | 'OUT_OF_MEMORY' | 'EVALUATION_ERROR' | 'UNKNOWN';
  readonly device: string | undefined;
  readonly nonRetryable: boolean;
  readonly delayMs: number | undefined;

  /** `delayMs`: delay before the next attempt, instead of the policy's. */
  constructor(
    type: AttemptFailure['type'],
    message: string,
    options: ErrorOptions & { device?: string; nonRetryable?: boolean; delayMs?: number } = {},
  ) {
    super(message, options);
    this.type = type;
    this.device = options.device;
    this.nonRetryable = options.nonRetryable ?? false;
    this.delayMs = options.delayMs;
  }
}
