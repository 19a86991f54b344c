import { task } from '@baton/client';

/** Tells where it ran. */
export const here = task({ id: 'here', run: async () => process.pid });

/** Holds its lease for so long. */
export const hold = task({
  id: 'hold-device',
  run: async (ms: number) => new Promise<number>((resolve) => setTimeout(() => resolve(ms), ms)),
});
