// The tasks that the workers of the benchmarks carry out.
import { RetryAfter, task } from '@baton/client';

export const noop = task({ id: 'noop', run: () => null });

/** Fails at its first attempt: it waits for its retry. */
export const flaky = task({
  id: 'flaky',
  run: (_: unknown, { attempt }) => {
    if (attempt === 1) throw new RetryAfter(200);
    return null;
  },
});

/** Says how long it really slept, ms. */
export const sleeps = task({
  id: 'sleeps',
  run: async (ms: number) => {
    const from = performance.now();
    await new Promise((resolve) => setTimeout(resolve, ms));
    return performance.now() - from;
  },
});

/** Says when it began, by the clock that all processes of a Linux machine have in common (CLOCK_MONOTONIC), in ns. */
export const probe = task({ id: 'probe', run: () => ({ startedNs: String(process.hrtime.bigint()) }) });
