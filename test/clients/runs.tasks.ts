import { NonRetryable, task } from '@baton/client';

export const square = task({
  id: 'square',
  run: (n: unknown) => {
    if (typeof n !== 'number') throw new NonRetryable(`${n} is no number`);
    return n * n;
  },
});

export const total = task({ id: 'total', run: (all: number[]) => all.reduce((a, b) => a + b, 0) });
