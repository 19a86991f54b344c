import type { RetriedEntry } from '@baton/store';

/**
 * Which entries of a function's journal its next execution forgets: what failed, and what was made and not waited for to the end (its
 * tasks and runs were cancelled with the run).
 *
 * A failure that the code has gone on from is kept, and what it gave is replayed as it was: something was commanded after its outcome was
 * seen, and would no longer fit if the same step now succeeded.
 */
export function droppedForRetry(entries: readonly RetriedEntry[]): number[] {
  const newestSeen = entries.reduce((newest, e) => Math.max(newest, e.afterPosition), 0);
  return entries
    .filter((e) =>
      e.position === 0
        ? e.kind === 'task' || e.kind === 'child' || e.kind === 'step'
        : e.failed && e.position > newestSeen,
    )
    .map((e) => e.number);
}

/** The same from chosen entries on, by name or number: the first of them and all that was commanded after it. Null: there is none. */
export function droppedFrom(entries: readonly RetriedEntry[], chosen: readonly string[]): number[] | null {
  const found = chosen.map((text) => entries.find((e) => e.name === text || String(e.number) === text)?.number);
  if (found.length === 0 || found.some((number) => number === undefined)) return null;
  const first = Math.min(...(found as number[]));
  return entries.filter((e) => e.number >= first).map((e) => e.number);
}
