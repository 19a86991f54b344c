import { isMainThread } from 'node:worker_threads';
import { task } from '@baton/client';

// Imports well where the worker does, and not in a thread.
if (!isMainThread) throw new Error('no licence here');

export const broken = task({ id: 'broken', isolation: 'thread', run: () => 1 });
