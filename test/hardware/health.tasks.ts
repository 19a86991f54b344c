import { task } from '@baton/client';

/** Tells where it ran. */
export const here = task({ id: 'here', run: async () => process.pid });
