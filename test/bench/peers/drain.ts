import { setTimeout as sleep } from 'node:timers/promises';
import { type CpuShare, cpuShare, readCpu } from '../cpu.ts';
import type { BenchServer } from '../server.ts';
import { JOB } from './peer.ts';
import { startPeer } from './peer-processes.ts';
import type { PeerName } from './registry.ts';
import { openPeer } from './store.ts';

export interface PeerDrain {
  workers: number;
  slots: number;
  /** That waited. */
  tasks: number;
  /** That were done within the time; fewer than waited: the time was over. */
  done: number;
  tasksPerSecond: number;
  seconds: number;
  /** Worker: its processes. Master: of BullMQ its Redis; else nothing. */
  cpu: CpuShare;
}

const LOOK_MS = 5;

/**
 * From the start of the first job (where it claims all before: from the word to begin) until nothing is pending, or so many are done, or
 * `capMs` are over.
 */
export async function drainPeer(
  server: BenchServer,
  name: PeerName,
  shape: { workers: number; slots: number; tasks: number; enough?: number; capMs: number },
): Promise<PeerDrain> {
  const { workers, slots, tasks, capMs } = shape;
  const enough = shape.enough ?? tasks;
  await using store = await openPeer(server, name, JOB);
  await store.load(tasks);
  await using processes = await startPeer(name.name, store.url, workers, slots);
  const parts = {
    postmaster: store.redisPid > 0 ? null : server.postmaster,
    master: store.redisPid,
    workers: processes.pids,
  };
  const from = readCpu(parts);
  const until = performance.now() + capMs;
  const goNs = process.hrtime.bigint();
  processes.go();
  while (performance.now() < until && !(processes.done() >= enough && (enough < tasks || !(await store.anyPending()))))
    await sleep(LOOK_MS);
  const endNs = process.hrtime.bigint();
  const to = readCpu(parts);
  const done = processes.done();
  const beginNs = store.peer.claimsAll ? goNs : (processes.firstNs() ?? goNs);
  const seconds = Number(endNs - beginNs) / 1e9;
  return {
    workers,
    slots,
    tasks,
    done,
    tasksPerSecond: done / seconds,
    seconds,
    cpu: cpuShare(from, to, Math.max(1, done)),
  };
}
