import type { JournalAnswer, JournalEntry, NewEntry } from '@baton/client/durable';

/** What is known of a journal when a go at its function begins. */
export interface LoadedJournal {
  readonly entries: readonly JournalEntry[];
  readonly wakes: bigint;
  /** The database's clock, ms; 0: not asked. */
  readonly nowMs: number;
}

/** Entries that a function which has ended did not wait for. */
export interface JournalRest {
  readonly entries: readonly NewEntry[];
  readonly seenPosition: number;
}

/** The journal of a durable function, by the lease of the task that drives it. Rejects when the lease is lost. */
export interface AttemptJournal {
  load(): Promise<LoadedJournal>;
  append(entries: readonly NewEntry[], seenPosition: number): Promise<JournalAnswer>;
  /** See the client's JournalPort. */
  readonly keepsTimes: boolean;
}
