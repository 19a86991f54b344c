import { task } from '@baton/client';

/** When its code began, by this machine's clock. */
export const startTime = task({ id: 'start-time', run: () => Date.now() });
