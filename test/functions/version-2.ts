import { workflow } from '@baton/client';

export const versioned = workflow({
  id: 'versioned',
  version: '2',
  run: async (ctx) => {
    await ctx.waitFor('go');
    return ctx.step('reply', () => 'two');
  },
});
