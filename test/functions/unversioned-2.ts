import { workflow } from '@baton/client';

export const changing = workflow({
  id: 'changing',
  run: async (ctx) => {
    const refunded = await ctx.step('refund', () => 'refunded');
    await ctx.waitFor('go');
    return refunded;
  },
});
