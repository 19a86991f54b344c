// What the worker of these tests can do.
import { task } from '@baton/client';

export const sum = task({
  id: 'sum',
  run: (input: { a: number; b: number }, ctx) => {
    ctx.log(`${input.a} and ${input.b}`);
    return input.a + input.b;
  },
});

export const twice = task({ id: 'twice', run: (input: { of: number }) => input.of * 2 });
