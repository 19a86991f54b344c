import { setTimeout as sleep } from 'node:timers/promises';
import { task } from '@baton/client';

export const last = task({
  id: 'last',
  run: async ({ ms }: { ms: number }, ctx) => {
    await sleep(ms, undefined, { signal: ctx.signal });
    return ms;
  },
});
