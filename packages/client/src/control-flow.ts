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
