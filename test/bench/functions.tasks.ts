// The durable functions that the workers of the benchmarks carry out.
import { workflow } from '@baton/client';

export const manySteps = workflow({
  id: 'many-steps',
  run: async (ctx, steps: number) => {
    let sum = 0;
    for (let i = 0; i < steps; i++) sum += await ctx.step('add', () => 1);
    return sum;
  },
});

export const addThree = workflow({
  id: 'add-three',
  run: async (ctx, start: number) => {
    const one = await ctx.step('one', () => start + 1);
    const two = await ctx.step('two', () => one + 1);
    return ctx.step('three', () => two + 1);
  },
});
