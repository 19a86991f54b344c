import { task } from '@baton/client';

/** Holds its devices for a while, and tells which, from when to when. */
export const hold = task({
  id: 'hold',
  run: async (input: { ms: number }, ctx) => {
    const from = performance.timeOrigin + performance.now();
    await new Promise((resolve) => setTimeout(resolve, input.ms));
    return { devices: ctx.devices, from, to: performance.timeOrigin + performance.now() };
  },
});
