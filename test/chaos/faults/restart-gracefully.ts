import { setTimeout as sleep } from 'node:timers/promises';
import type { MasterNode, WorkerNode } from '../cluster.ts';
import type { FaultKind } from './fault.ts';

/** SIGTERM, and up again: a master ends its polls and gives its number back, a worker drains and leaves. */
function restart(what: 'masters' | 'workers', name: string): FaultKind {
  return {
    name,
    cards: 1,
    async fire({ cluster }, random) {
      const { program } = random.pick<MasterNode | WorkerNode>(cluster[what]);
      const downMs = random.whole(0, 2_000);
      await program.down('SIGTERM');
      await sleep(downMs);
      program.up();
      return program.name;
    },
  };
}

export const restartMaster = restart('masters', 'restart_master');
export const restartWorker = restart('workers', 'restart_worker');
