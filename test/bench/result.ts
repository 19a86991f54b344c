import type { Spread } from './statistics.ts';

/** One measurement: what was repeated, the spread of its figures over the repetitions, and each repetition. */
export interface Result<Run> {
  shape: Record<string, string | number>;
  figures: Record<string, Spread | null>;
  runs: Run[];
}
