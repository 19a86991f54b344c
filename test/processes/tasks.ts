import { task } from '@baton/client';

/** Counts, saves only when it is asked to, and says from where it began and how much it counted itself. */
export const count = task({
  id: 'count',
  run: async ({ to }: { to: number }, ctx) => {
    const from = (await ctx.checkpoint.load<number>()) ?? 0;
    let at = from;
    ctx.onCheckpointNow(() => ctx.checkpoint.save(at));
    while (at < to) {
      ctx.signal.throwIfAborted();
      at++;
      ctx.progress(at / to);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return { from, counted: to - from };
  },
});
