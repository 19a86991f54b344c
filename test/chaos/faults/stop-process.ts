import { setTimeout as sleep } from 'node:timers/promises';
import { LEASE_TTL_MS, type MasterNode, type WorkerNode } from '../cluster.ts';
import type { FaultKind } from './fault.ts';

/** SIGSTOP, and SIGCONT after a part of the lease, or more than it. */
function stop(what: 'masters' | 'workers', name: string, [least, most]: readonly [number, number]): FaultKind {
  return {
    name,
    cards: 2,
    async fire({ cluster }, random) {
      const { program } = random.pick<MasterNode | WorkerNode>(cluster[what]);
      const ms = Math.round(LEASE_TTL_MS * (least + (most - least) * random.next()));
      program.signal('SIGSTOP');
      await sleep(ms);
      program.signal('SIGCONT');
      return `${program.name} for ${ms} ms`;
    },
  };
}

export const stopMasterShortly = stop('masters', 'stop_master_shortly', [0.1, 0.7]);
export const stopMasterLong = stop('masters', 'stop_master_long', [1.2, 2.2]);
export const stopWorkerShortly = stop('workers', 'stop_worker_shortly', [0.1, 0.7]);
export const stopWorkerLong = stop('workers', 'stop_worker_long', [1.2, 2.2]);
