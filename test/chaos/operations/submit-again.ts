import { submit } from '../client.ts';
import type { Operation } from './operation.ts';

/** An earlier key once more: with the same body it gives the same task, with another one it is refused. */
export const submitAgain: Operation = {
  name: 'submit again',
  weight: 6,
  async perform(line) {
    const [place, otherBody] = [line.random.next(), line.random.chance(0.3)];
    const keyed = line.known.tasks.filter(({ submission }) => submission.idempotencyKey !== undefined);
    const known = keyed[Math.floor(place * keyed.length)];
    if (known === undefined) return;
    const { submission } = known;
    await submit(line, otherBody ? { ...submission, labels: { mark: line.nextOp() } } : submission);
  },
};
