import { existsSync } from 'node:fs';
import { task } from '@baton/client';

export const generate = task({
  id: 'generate',
  run: ({ count }: { count: number }) => ({ numbers: [...Array(count).keys()] }),
});

/** Waits for a file, if it is told of one: the test says when. */
export const total = task({
  id: 'total',
  run: async ({ numbers, after }: { numbers: number[]; after?: string }, ctx) => {
    while (after !== undefined && !existsSync(after)) {
      ctx.signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return numbers.reduce((sum, n) => sum + n, 0);
  },
});
