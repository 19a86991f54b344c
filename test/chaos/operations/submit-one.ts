import { submit } from '../client.ts';
import type { Operation } from './operation.ts';
import { drawTask } from './task-mix.ts';

export const submitOne: Operation = {
  name: 'submit one',
  weight: 55,
  perform: (line) =>
    submit(
      line,
      drawTask(line.random, () => `key-${line.nextOp()}`),
    ),
};
