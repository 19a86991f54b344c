import { setTimeout as sleep } from 'node:timers/promises';
import { type CpuShare, cpuShare, readCpu } from '../cpu.ts';
import { startLoad } from '../load.ts';
import type { BenchServer } from '../server.ts';
import { type Percentiles, percentiles } from '../statistics.ts';
import { JOB } from './peer.ts';
import { startPeer } from './peer-processes.ts';
import type { PeerName } from './registry.ts';
import { openPeer } from './store.ts';

export interface PeerLatency {
  slots: number;
  rate: number;
  /** Tasks a second beside the probes; 0: idle. */
  load: number;
  probes: number;
  /** From the call that adds a job to the first line of its code. */
  startMs: Percentiles;
  /** A probe's share of all that is used meanwhile. */
  cpu: CpuShare;
}

const WARM_UP = 40;
const SETTLE_MS = 500;
const LAST_MS = 10_000;

/** One worker process, idle but for the probes, or beside a load. */
export async function latencyOfPeer(
  server: BenchServer,
  name: PeerName,
  shape: { slots: number; rate: number; seconds: number; load: number },
): Promise<PeerLatency> {
  const { slots, rate, seconds, load } = shape;
  await using store = await openPeer(server, name, JOB);
  await using processes = await startPeer(name.name, store.url, 1, slots);
  processes.go();
  await using beside = load > 0 ? await startLoad(name.name, store.url, load) : null;
  const series = async (count: number) => {
    const begin = performance.now();
    for (let i = 0; i < count; i++) {
      const due = begin + (i * 1000) / rate - performance.now();
      if (due > 0) await sleep(due);
      void store.client.add({ ...JOB, sentNs: String(process.hrtime.bigint()) });
    }
  };
  await series(WARM_UP);
  await sleep(SETTLE_MS);
  const warm = processes.takeDelays().length;
  const parts = {
    postmaster: store.redisPid > 0 ? null : server.postmaster,
    master: store.redisPid,
    workers: [...processes.pids, ...(beside ? [beside.pid] : [])],
  };
  const count = rate * seconds;
  const from = readCpu(parts);
  await series(count);
  const cpu = cpuShare(from, readCpu(parts), count);
  const delays: number[] = [];
  const until = performance.now() + LAST_MS;
  while (warm + delays.length < WARM_UP + count && performance.now() < until) {
    delays.push(...processes.takeDelays());
    await sleep(20);
  }
  // Those of the warm-up that came late are no samples.
  return { slots, rate, load, probes: count, startMs: percentiles(delays.slice(-count)), cpu };
}
