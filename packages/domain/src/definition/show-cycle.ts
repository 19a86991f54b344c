import { quote } from './problem.ts';

const SHOWN_WHOLE = 16;

/** A cycle as text, closed: `"a" → "b" → "a"`. A very long one is cut in the middle, saying how much. */
export function showCycle(ids: readonly string[]): string {
  const first = ids[0];
  if (first === undefined) return '';
  const quoted = (part: readonly string[]): string[] => part.map(quote);
  if (ids.length <= SHOWN_WHOLE) return quoted([...ids, first]).join(' → ');
  const left = quoted(ids.slice(0, 10));
  const right = quoted([...ids.slice(-3), first]);
  return [...left, `… ${ids.length - 13} more …`, ...right].join(' → ');
}
