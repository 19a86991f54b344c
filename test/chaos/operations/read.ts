import { isFinalTaskState } from '@baton/client';
import { land } from '../client.ts';
import type { Operation } from './operation.ts';

/** Reads a task; where it has ended, the end that was seen must be the end. */
export const read: Operation = {
  name: 'read',
  weight: 8,
  async perform(line) {
    const place = line.random.next();
    const known = line.known.tasks[Math.floor(place * line.known.tasks.length)];
    if (known === undefined) return;
    const { answer, value } = await land(line, () => line.baton.tasks.get(known.id), 10_000);
    if (value === undefined || !isFinalTaskState(value.state)) return;
    const { state, outputHash: outputSha256 } = value;
    line.recorder.operation({
      type: 'see_end',
      taskId: known.id,
      state,
      ...(outputSha256 && { outputSha256 }),
      ...answer,
    });
  },
};
