import { land } from '../client.ts';
import type { Operation } from './operation.ts';

export const cancelRun: Operation = {
  name: 'cancel run',
  weight: 1,
  async perform(line) {
    const place = line.random.next();
    const list = line.known.runs.slice(-10);
    const runId = list[Math.floor(place * list.length)];
    if (runId === undefined) return;
    const { answer } = await land(line, () => line.baton.runs.cancel(runId, 'chaos'), 15_000);
    line.recorder.operation({ type: 'cancel_run', runId, ...answer });
  },
};
