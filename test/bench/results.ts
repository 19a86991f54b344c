import { createBaton } from '@baton/client';
import { INPUT, inLanes } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { verifyHistory } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import { type Percentiles, percentiles } from './statistics.ts';

/** Callers who submit a no-op task and wait for its result before they submit the next, or one who submits all at once. */
export interface ResultRun {
  way: 'loops' | 'burst';
  /** Callers; of a burst, its tasks. */
  atOnce: number;
  tasks: number;
  tasksPerSecond: number;
  seconds: number;
  /** From submit to the result in the caller's hands. */
  resultMs: Percentiles;
  cpu: CpuShare;
}

const SLOTS = 16;
const WARM_UP_MS = 500;
const BURST = 2_000;

/** One master, one worker, and callers of the SDK, who share one client. */
export async function measureResults(
  server: BenchServer,
  options: BenchOptions,
  onRun: (run: ResultRun) => void,
): Promise<ResultRun[]> {
  await using product = await startProduct(server, options);
  await product.addWorkers(1, SLOTS);
  const baton = createBaton({ url: product.url });
  const input = JSON.parse(INPUT) as unknown;
  let done = 0;
  const times: number[] = [];
  const one = async () => {
    const at = performance.now();
    const task = await baton.submit({ kind: 'noop', input });
    await task.result();
    times.push(performance.now() - at);
    done++;
  };
  const runs: ResultRun[] = [];
  const measure = async (way: ResultRun['way'], atOnce: number, work: () => Promise<unknown>) => {
    times.length = 0;
    const from = product.readCpu();
    await work();
    const to = product.readCpu();
    const seconds = (to.atMs - from.atMs) / 1000;
    const tasks = times.length;
    const run: ResultRun = {
      way,
      atOnce,
      tasks,
      tasksPerSecond: tasks / seconds,
      seconds,
      resultMs: percentiles(times),
      cpu: cpuShare(from, to, tasks),
    };
    runs.push(run);
    onRun(run);
  };
  for (const atOnce of [1, 16, 128]) {
    const loop = (milliseconds: number) => {
      const until = performance.now() + milliseconds;
      return inLanes(atOnce, () => performance.now() < until, one);
    };
    await loop(Math.min(WARM_UP_MS, options.seconds * 1000));
    await measure('loops', atOnce, () => loop(options.seconds * 1000));
  }
  await measure('burst', BURST, () => Promise.all(Array.from({ length: BURST }, one)));
  await verifyHistory(product.database.sql, done);
  return runs;
}
