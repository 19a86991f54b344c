/** The bounds of a delay before another try, in milliseconds. */
export interface Backoff {
  /** Bound of the first delay. */
  readonly baseMs: number;
  /** Bound of every delay. */
  readonly capMs: number;
}

/**
 * A delay with full jitter: anywhere between 0 and the doubled bound, so that workers that lost the same master do not
 * come back at the same moment. `failures` counts from 1; `random` is from 0 to 1.
 */
export function fullJitter(failures: number, { baseMs, capMs }: Backoff, random = Math.random()): number {
  return Math.round(random * Math.min(capMs, baseMs * 2 ** Math.min(failures - 1, 30)));
}
