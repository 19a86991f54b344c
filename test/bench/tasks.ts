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

/** How many bytes its input has. */
export const weigh = task({ id: 'weigh', run: (input: Uint8Array) => input.byteLength });

/** Computes until it has used so much CPU, ms, and lets others have their turn each 10 ms. Says how much it used. */
export const computes = task({
  id: 'computes',
  run: async (ms: number) => {
    let used = 0;
    while (used < ms) {
      const from = process.threadCpuUsage();
      let spent = 0;
      for (let x = 1; spent < 10_000; ) {
        for (let i = 0; i < 50_000; i++) x = (x * 1_103_515_245 + 12_345) % 2_147_483_648;
        const { user, system } = process.threadCpuUsage(from);
        spent = user + system + Math.min(0, x);
      }
      used += spent / 1_000;
      await new Promise(setImmediate);
    }
    return used;
  },
});
