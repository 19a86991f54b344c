/** `start` was called and the worker stopped before any master took it. */
export class WorkerStoppedError extends Error {
  override readonly name = 'WorkerStoppedError';

  constructor(reason: string) {
    super(`the worker stopped before it was registered: ${reason}`);
  }
}

/** What a task streamed will not be kept. */
export class OutputError extends Error {
  override readonly name = 'OutputError';
}

/** A checkpoint was not saved or loaded. `reason` is the master's, such as BLOB_TOO_LARGE; empty where it said none. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError';
  readonly reason: string;

  constructor(message: string, reason = '', options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/**
 * A file was not kept, or cannot be had. `reason`: INVALID_NAME, NO_FILE, NO_SUCH_ARTIFACT, TOO_MANY_ARTIFACTS, ARTIFACT_CORRUPT, DISK_FULL,
 * CACHE_UNUSABLE or ATTEMPT_OVER.
 */
export class ArtifactError extends Error {
  override readonly name = 'ArtifactError';
  readonly reason: string;
  /** What the task asked for cannot be had in another attempt either. */
  readonly nonRetryable: boolean;

  constructor(reason: string, message: string, options?: ErrorOptions) {
    super(`${reason}: ${message}`, options);
    this.reason = reason;
    this.nonRetryable = ['INVALID_NAME', 'NO_SUCH_ARTIFACT', 'TOO_MANY_ARTIFACTS'].includes(reason);
  }
}

/** The journal of a durable function cannot be read or written. `reason` is the master's: LEASE_LOST, JOURNAL_FULL, … */
export class JournalError extends Error {
  override readonly name = 'JournalError';
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(`${reason}: ${message}`);
    this.reason = reason;
  }
}

/** The options of a worker cannot work; `problems` has all that is wrong. */
export class WorkerOptionsError extends Error {
  override readonly name = 'WorkerOptionsError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the worker cannot be made: ${problems.join('; ')}`);
    this.problems = problems;
  }
}
