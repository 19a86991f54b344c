import { submit } from '../client.ts';
import type { Operation } from './operation.ts';
import { drawTask } from './task-mix.ts';

/** The same task with the same key by two ways at once: one task. */
export const submitTwice: Operation = {
  name: 'submit twice at once',
  weight: 6,
  async perform(line) {
    const op = line.nextOp();
    const key = `twice-${op}`;
    const task = { ...drawTask(line.random, () => key), idempotencyKey: key, labels: { mark: op } };
    await Promise.all([submit(line, task), submit(line, task, line.other)]);
  },
};
