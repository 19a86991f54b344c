import { isNamed } from '../error-name.ts';
import type { CommandKind, JournalFailure } from './journal.ts';

/**
 * A step, a task or a child of a durable function did not succeed, for good. Thrown where the function awaits it, and thrown alike when
 * the function is replayed.
 */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
  readonly step: string;
  readonly kind: CommandKind;
  /** Place in the function's journal. */
  readonly number: number;
  readonly attempts: number;
  readonly failure: JournalFailure;

  constructor(entry: { name: string; kind: CommandKind; number: number; attempts: number }, failure: JournalFailure) {
    const after = entry.attempts > 1 ? ` after ${entry.attempts} attempts` : '';
    super(`${entry.kind} \`${entry.name}\` failed${after}: ${failure.message}`);
    this.step = entry.name;
    this.kind = entry.kind;
    this.number = entry.number;
    this.attempts = entry.attempts;
    this.failure = failure;
  }

  /** One of another copy of this package is one, too: worker, command and program may each have their own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isNamed(value, 'StepFailed');
  }
}

/** The code of a function does not fit its journal: it was changed under a run, or is not deterministic. Names the step. */
export class NonDeterminism extends Error {
  override readonly name = 'NonDeterminism';
  readonly nonRetryable = true;
  /** The command at which journal and code part. */
  readonly number: number;

  constructor(number: number, message: string) {
    super(message);
    this.number = number;
  }
}

/** Something that a function asks its context for makes no sense. A defect of the code: no retry helps. */
export class WorkflowUsageError extends Error {
  override readonly name = 'WorkflowUsageError';
  readonly nonRetryable = true;
}

/** What the journal says of an entry is not what the code has seen already: this go is over, the next one begins with what the journal has. */
export class JournalOutOfStep extends Error {
  /** As the worker's own: nothing that the function's code did. */
  override readonly name = 'JournalError';
  readonly reason = 'OUT_OF_STEP';

  constructor(number: number) {
    super(`entry ${number} of the journal has another place or another time than the code was told`);
  }
}
