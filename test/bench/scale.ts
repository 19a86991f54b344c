import { connect, inLanes } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { whenSucceeded } from './drain.ts';
import { verifyHistory } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

/** Workers of one slot, each with tasks that sleep. */
export interface ScaleRun {
  workers: number;
  tasks: number;
  /** What the tasks asked their timers for. */
  taskMs: number;
  seconds: number;
  tasksPerSecond: number;
  /** The tasks' own time, by that of all slots: what is missing to 100 went by between two tasks, or while a worker had none. */
  efficiencyPercent: number;
  cpu: CpuShare;
}

const TASK_MS = 20;
const CALL = 500;

/** From the first grant to the last end, by Postgres's clock. */
export async function measureScale(server: BenchServer, options: BenchOptions, workers: number): Promise<ScaleRun> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  const { sql } = product.database;
  await product.addWorkers(workers, 1);
  const tasks = options.tasks * workers;
  const payload = { case: 'inputJson', value: String(TASK_MS) } as const;
  let left = tasks;
  const from = product.readCpu();
  await inLanes(
    1,
    () => left > 0,
    async () => {
      const count = Math.min(left, CALL);
      left -= count;
      await client.tasks.submitTasks({ tasks: Array.from({ length: count }, () => ({ kind: 'sleeps', payload })) });
    },
  );
  await whenSucceeded(client, tasks, product.logs);
  const cpu = cpuShare(from, product.readCpu(), tasks);
  const { seconds } = await verifyHistory(sql, tasks);
  const [row] = await sql`select sum((convert_from(output, 'utf8'))::float8) as ms from baton.outcomes`;
  const efficiencyPercent = (Number(row!.ms) / 1000 / (seconds * workers)) * 100;
  return { workers, tasks, taskMs: TASK_MS, seconds, tasksPerSecond: tasks / seconds, efficiencyPercent, cpu };
}
