import { submit } from '../client.ts';
import type { Operation } from './operation.ts';
import { drawTask } from './task-mix.ts';

/** Submits of one tick leave in one call; each has its own answer. */
export const submitMany: Operation = {
  name: 'submit many',
  weight: 9,
  async perform(line) {
    const tasks = Array.from({ length: line.random.whole(10, 50) }, () =>
      drawTask(line.random, () => `key-${line.nextOp()}`),
    );
    await Promise.all(tasks.map((task) => submit(line, task)));
  },
};
