/** What the workers of either version can do. Written with what both versions of the client know. */
import { task } from '@baton/client';

interface Work {
  readonly n: number;
  readonly ms?: number;
}

/** Takes a moment, or longer; ends when it is told to. */
export const work = task({
  id: 'work',
  async run({ n, ms = 0 }: Work, { signal }) {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(signal.reason);
      });
    });
    return { n };
  },
});

/** Fails at its first attempt. */
export const flaky = task({
  id: 'flaky',
  retry: { maxAttempts: 5, initialDelayMs: 50, jitter: 0 },
  run({ n }: Work, { attempt }) {
    if (attempt === 1) throw new Error('the first attempt fails');
    return { n };
  },
});
