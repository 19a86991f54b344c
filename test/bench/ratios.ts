import type { Result } from './result.ts';
import { round, spread } from './statistics.ts';

/** Baton's figure by a peer's, of one repetition. */
export interface RatioRun {
  ratio: number;
}

/**
 * Baton beside each peer, repetition by repetition, where both measured the same: above 1 is better for Baton, whatever is compared.
 *
 * @param alike of a measurement's shape what has to be the same, and is shown
 * @param figures of a run; what is better when it is smaller, as a time, is given as its inverse
 */
export function ratios<Run extends { who: string }>(
  results: readonly Result<Run>[],
  alike: (run: Run) => Record<string, string | number>,
  figures: Record<string, (run: Run) => number>,
): Result<RatioRun>[] {
  const keyOf = (result: Result<Run>) => JSON.stringify(alike(result.runs[0]!));
  const ours = results.filter((result) => result.runs[0]!.who === 'baton');
  const theirs = results.filter((result) => result.runs[0]!.who !== 'baton');
  return theirs.flatMap((their) =>
    ours
      .filter((our) => keyOf(our) === keyOf(their))
      .flatMap((our) =>
        Object.entries(figures).map(([figure, of]) => {
          const runs = their.runs.map((run, rep) => ({ ratio: of(our.runs[rep]!) / of(run) }));
          const to = their.runs[0]!.who;
          return {
            shape: { baton_to: to, figure, ...our.shape, who: 'ratio' },
            figures: { times: spread(runs.map((run) => round(run.ratio))) },
            runs,
          };
        }),
      ),
  );
}
