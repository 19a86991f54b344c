import type { JournalAnswer, JournalEntry, NewEntry } from '@baton/client/durable';

/** What is known of a journal when a go at its function begins. */
export interface LoadedJournal {
  readonly entries: readonly JournalEntry[];
  readonly wakes: bigint;
  /** The database's clock, ms; 0: not asked. */
  readonly nowMs: number;
}

/** The journal of a durable function, by the lease of the task that drives it. Rejects when the lease is lost. */
export interface AttemptJournal {
  load(): Promise<LoadedJournal>;
  append(entries: readonly NewEntry[], seenPosition: number): Promise<JournalAnswer>;
}
