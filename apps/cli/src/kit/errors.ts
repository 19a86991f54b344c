/** What the kit cannot do, or what keeps a test from ever ending. */
export class KitError extends Error {
  override readonly name = 'KitError';
  readonly reason: KitErrorReason;

  constructor(reason: KitErrorReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/**
 * - `UNKNOWN_TASK`: the kit was not given the task or the function that is to be run or failed
 * - `NOTHING_WILL_HAPPEN`: what is waited for cannot come: nothing runs and nothing is due
 * - `STILL_RUNNING`: time was to pass, and code goes on for too long
 * - `BROKEN_FILE`: a workflow file with problems, or none
 * - `STOPPED`: the kit was stopped before
 */
export type KitErrorReason = 'UNKNOWN_TASK' | 'NOTHING_WILL_HAPPEN' | 'STILL_RUNNING' | 'BROKEN_FILE' | 'STOPPED';
