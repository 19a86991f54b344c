import type { TaskSpec } from '@baton/contract';

/** What a function can ask for that is kept in its journal. */
export type CommandKind = 'step' | 'sleep' | 'signal' | 'task' | 'child';

/** 1: JSON text in UTF-8, empty for `undefined`. 2: bytes of the user's own. */
export interface JournalPayload {
  readonly encoding: 1 | 2;
  readonly bytes: Uint8Array;
  /** Instead of bytes: a blob that a task returned. */
  readonly blob?: { readonly sha256: string; readonly sizeBytes: number };
}

/** Why a step, a task or a child did not succeed. */
export interface JournalFailure {
  /** EVALUATION_ERROR, TASK_TIMEOUT, NETWORK_ERROR, … */
  readonly type: string;
  readonly message: string;
  readonly exceptionType?: string;
  readonly stack?: string;
  readonly nonRetryable?: boolean;
}

/** One command of a function, and what came of it. */
export interface JournalEntry {
  /** Order of the commands in the code: 1, 2, … */
  readonly number: number;
  readonly kind: CommandKind;
  readonly name: string;
  /** Order in which commands were resolved, rising, with gaps; 0: not resolved yet. */
  readonly position: number;
  /** When it was resolved, ms, by the database's clock; 0 while it is not. */
  readonly endedAtMs: number;
  /** When it is due, ms, by the database's clock: a sleep, the time-out of a signal, the next attempt of a step. 0: never. */
  readonly dueAtMs: number;
  /** Of the task or the run that it made; '' where there is none. */
  readonly refId: string;
  /** Its task or run could not be made yet: the command is to be sent once more. */
  readonly unborn?: boolean;
  readonly output?: JournalPayload;
  readonly failure?: JournalFailure;
  /** Of a step: how often it was tried. */
  readonly attempts: number;
}

/** A task that a function submits. */
export interface TaskCommand {
  readonly kind: string;
  /** Kind, executor, environment, resources, requirements and the other timeouts, of a task that has any. */
  readonly spec?: TaskSpec;
  readonly input: JournalPayload | undefined;
  readonly queue?: string;
  readonly taskClass?: string;
  readonly tags?: readonly string[];
  readonly priority?: number;
  readonly startToCloseTimeoutMs?: number;
  /** Files that it is handed, by name. */
  readonly artifacts?: Readonly<
    Record<string, { readonly sha256: string; readonly sizeBytes?: number; readonly taskId?: string }>
  >;
  readonly retry?: {
    readonly maxAttempts?: number;
    readonly initialDelayMs?: number;
    readonly factor?: number;
    readonly maxDelayMs?: number;
    readonly jitter?: number;
  };
}

/** A run that a function starts. */
export interface ChildCommand {
  readonly workflow: string;
  readonly input: JournalPayload | undefined;
  /** The same key for the same workflow gives the same run. */
  readonly key?: string;
}

/** What a function adds to its journal. A repeated one, by its number, changes nothing. */
export interface NewEntry {
  readonly number: number;
  readonly kind: CommandKind;
  readonly name: string;
  /** The newest position that the code had seen when it asked. */
  readonly afterPosition: number;
  /** A step has ended; otherwise it waits. */
  readonly ended: boolean;
  readonly output?: JournalPayload;
  readonly failure?: JournalFailure;
  readonly attempts?: number;
  /** Due so long from now; instead of `dueAtMs`. */
  readonly dueInMs?: number;
  /** Due at this time, ms since the epoch. */
  readonly dueAtMs?: number;
  /** When the step ended, ms, by the database's clock as it is known here. Missing: when it is written. */
  readonly endedAtMs?: number;
  readonly task?: TaskCommand;
  readonly child?: ChildCommand;
}

export interface JournalAnswer {
  /** What was resolved behind the position asked about, by position; and of what was added all that waits. */
  readonly entries: readonly JournalEntry[];
  /** How often something happened to the run that could end a wait, as of these entries. */
  readonly wakes: bigint;
  /** The database's clock, ms. */
  readonly nowMs: number;
}

/** Where a function's journal is kept. */
export interface JournalPort {
  /**
   * Adds entries, and tells what was resolved since. Durable when it resolves. Repeats itself until it is known to have happened; rejects
   * when the function is another's by now, or when the journal refuses an entry.
   */
  append(entries: readonly NewEntry[], seenPosition: number): Promise<JournalAnswer>;
  /** Whether entries keep the times that they are sent with. */
  readonly keepsTimes: boolean;
}

/** A kept output of one step, task or child is at most this large: 2 MiB. */
export const MAX_OUTPUT_BYTES = 2 * 1024 * 1024;
/** Entries of one run at most. */
export const MAX_ENTRIES = 100_000;
