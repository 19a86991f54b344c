import { appendFileSync, existsSync } from 'node:fs';
import { task, workflow } from '@baton/client';

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

interface Trip {
  /** Gets a line for each time that a step was carried out. */
  readonly effects: string;
  /** The second step waits for this file, where it is told of one. */
  readonly after?: string;
  readonly signal?: boolean;
  readonly fails?: boolean;
}

/** Something of all that a function can do. */
export const trip = workflow({
  id: 'trip',
  run: async (ctx, { effects, after, signal = false, fails = false }: Trip) => {
    const book = await ctx.step('book', ({ stepKey }) => {
      appendFileSync(effects, `book ${stepKey}\n`);
      return 'booked';
    });
    await ctx.sleep(300);
    const numbers = await ctx.run(generate, { count: 3 });
    const late = await ctx.waitFor('never', { timeout: 300 });
    const go = signal ? await ctx.waitFor<string>('go') : 'without';
    await ctx.step('travel', async ({ stepKey, signal: stop }) => {
      appendFileSync(effects, `travel ${stepKey}\n`);
      if (fails) throw Object.assign(new Error('the train is late'), { nonRetryable: true });
      while (after !== undefined && !existsSync(after)) {
        stop.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
    return { book, sum: await ctx.run(total, numbers), late: late === undefined, go };
  },
});
