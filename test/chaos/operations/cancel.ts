import { land } from '../client.ts';
import type { Operation } from './operation.ts';

/** Of a task that may wait, run, or have ended; sometimes of one that is submitted at this moment. */
export const cancel: Operation = {
  name: 'cancel',
  weight: 7,
  async perform(line) {
    const [recent, place] = [line.random.chance(0.7), line.random.next()];
    const list = recent ? line.known.tasks.slice(-30) : line.known.tasks;
    const known = list[Math.floor(place * list.length)];
    if (known === undefined) return;
    const { answer, value } = await land(line, () => line.baton.tasks.cancel(known.id, 'chaos'), 15_000);
    const answered = value === 'cancelled' ? 'cancelled' : 'asked';
    line.recorder.operation({ type: 'cancel', taskId: known.id, ...(value && { answered }), ...answer });
  },
};
