import { land } from '../client.ts';
import type { FaultKind } from './fault.ts';

/** An administrator drains a worker: it finishes what it has and leaves; its service manager starts it again. */
export const drainWorker: FaultKind = {
  name: 'drain_worker',
  cards: 1,
  optional: true,
  async fire({ line, cluster }, random) {
    const { name } = random.pick(cluster.workers).program;
    const { answer } = await land(line, () => line.baton.workers.drain(name, 'chaos'), 0);
    line.recorder.operation({ type: 'drain_worker', worker: name, ...answer });
    return answer.outcome === 'ok' ? name : undefined;
  },
};
