import { inLanes } from '../calls.ts';
import { type CpuShare, cpuShare, readCpu } from '../cpu.ts';
import type { BenchServer } from '../server.ts';
import { type Percentiles, percentiles } from '../statistics.ts';
import { JOB } from './peer.ts';
import type { PeerName } from './registry.ts';
import { openPeer } from './store.ts';

export interface PeerSubmit {
  way: 'api' | 'bulk';
  atOnce: number;
  tasksPerCall: number;
  tasks: number;
  tasksPerSecond: number;
  seconds: number;
  answerMs: Percentiles;
  cpu: CpuShare;
}

const WARM_UP_MS = 300;
const BULK = 1_000;

/** Closed loops, as those of Baton: one by one, 16 and 128 at once, and in calls of 1 000 where there is such a call. */
export async function submitPeer(server: BenchServer, name: PeerName, milliseconds: number): Promise<PeerSubmit[]> {
  await using store = await openPeer(server, name, JOB);
  const { client } = store;
  const parts = { postmaster: store.redisPid > 0 ? null : server.postmaster, master: store.redisPid, workers: [] };
  const loop = async (atOnce: number, ms: number, step: () => Promise<unknown>): Promise<number[]> => {
    const until = performance.now() + ms;
    const answers: number[] = [];
    await inLanes(
      atOnce,
      () => performance.now() < until,
      async () => {
        const at = performance.now();
        await step();
        answers.push(performance.now() - at);
      },
    );
    return answers;
  };
  const measure = async (
    way: PeerSubmit['way'],
    atOnce: number,
    tasksPerCall: number,
    step: () => Promise<unknown>,
  ) => {
    await loop(atOnce, Math.min(WARM_UP_MS, milliseconds), step);
    const from = readCpu(parts);
    const answers = await loop(atOnce, milliseconds, step);
    const to = readCpu(parts);
    const tasks = answers.length * tasksPerCall;
    const seconds = (to.atMs - from.atMs) / 1000;
    const tasksPerSecond = tasks / seconds;
    const cpu = cpuShare(from, to, tasks);
    return { way, atOnce, tasksPerCall, tasks, tasksPerSecond, seconds, answerMs: percentiles(answers), cpu };
  };
  const runs: PeerSubmit[] = [];
  for (const atOnce of [1, 16, 128]) runs.push(await measure('api', atOnce, 1, () => client.add(JOB)));
  if (client.addMany !== null) {
    const jobs = Array.from({ length: BULK }, () => JOB);
    runs.push(await measure('bulk', 1, BULK, () => client.addMany!(jobs)));
  }
  return runs;
}
