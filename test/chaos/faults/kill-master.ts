import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultKind } from './fault.ts';

export const killMaster: FaultKind = {
  name: 'kill_master',
  cards: 2,
  async fire({ cluster }, random) {
    const { program } = random.pick(cluster.masters);
    const downMs = random.whole(200, 5_000);
    await program.down('SIGKILL');
    await sleep(downMs);
    program.up();
    return program.name;
  },
};
