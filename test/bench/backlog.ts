import { setTimeout as sleep } from 'node:timers/promises';
import { connect, inLanes, submitBulk } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

export interface BacklogRun {
  who: 'baton';
  slots: number;
  /** That waited. */
  tasks: number;
  /** That were done in the time. */
  done: number;
  tasksPerSecond: number;
  seconds: number;
  cpu: CpuShare;
}

/** What waits in a small backlog. */
export const SMALL_BACKLOG = 30_000;
/** So many are drained, at most two thirds of what waits. */
export const DRAINED = 20_000;
/** Not measured: prepared statements, compiled code. */
const WARM_UP = 2_000;
const CALL = 1_000;
const LANES = 4;
const LOOK_MS = 5;

export const drainedOf = (tasks: number) => Math.min(DRAINED, Math.floor((tasks * 2) / 3));

/** One worker takes the first of those that wait, and goes on: how many a second, whatever waits behind. */
export async function measureBacklog(
  server: BenchServer,
  options: BenchOptions,
  slots: number,
  tasks: number,
): Promise<BacklogRun> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  let left = tasks;
  await inLanes(
    LANES,
    () => left > 0,
    () => {
      const count = Math.min(left, CALL);
      left -= count;
      return submitBulk(client, count);
    },
  );
  const { sql } = product.database;
  await sql`vacuum analyze`;
  await sql`checkpoint`;
  const succeeded = async () => {
    const { metrics } = await client.system.getMetrics({ names: ['baton_tasks_succeeded_total'] });
    return metrics[0]!.value;
  };
  const reach = async (count: number) => {
    for (let now = await succeeded(); ; now = await succeeded()) {
      if (now >= count) return now;
      await sleep(LOOK_MS);
    }
  };
  await product.addWorkers(1, slots);
  const first = await reach(Math.min(WARM_UP, Math.floor(tasks / 10)));
  const from = product.readCpu();
  const last = await reach(first + drainedOf(tasks) - Math.min(WARM_UP, Math.floor(tasks / 10)));
  const to = product.readCpu();
  const done = last - first;
  const seconds = (to.atMs - from.atMs) / 1000;
  return { who: 'baton', slots, tasks, done, tasksPerSecond: done / seconds, seconds, cpu: cpuShare(from, to, done) };
}
