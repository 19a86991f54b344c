import { workflow } from '@baton/client';

export const changing = workflow({
  id: 'changing',
  run: async (ctx) => {
    const charged = await ctx.step('charge', () => 'charged');
    await ctx.waitFor('go');
    return charged;
  },
});
