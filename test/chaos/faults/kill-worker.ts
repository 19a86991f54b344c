import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultKind } from './fault.ts';

/** Sometimes it is back before its lease is over, sometimes after. */
export const killWorker: FaultKind = {
  name: 'kill_worker',
  cards: 3,
  async fire({ cluster }, random) {
    const { program } = random.pick(cluster.workers);
    const downMs = random.whole(0, 5_000);
    await program.down('SIGKILL');
    await sleep(downMs);
    program.up();
    return program.name;
  },
};
