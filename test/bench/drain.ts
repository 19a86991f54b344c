import { setTimeout as sleep } from 'node:timers/promises';
import type { TaskSpec } from '@baton/contract';
import { connect, type GrpcClient, inLanes, noopSpec, submitBulk } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { type History, verifyHistory } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import { readStatements, resetStatements, type StatementCost } from './statements.ts';

export interface DrainRun {
  who: 'baton';
  workers: number;
  slots: number;
  tasks: number;
  tasksPerSecond: number;
  seconds: number;
  cpu: CpuShare;
  history: Omit<History, 'seconds'>;
  preload: { tasksPerSecond: number; seconds: number; cpu: CpuShare };
  statements?: StatementCost[];
}

/** The tasks do not get fewer: something is broken. */
export class StalledError extends Error {
  override readonly name = 'StalledError';
}

const PRELOAD_CALL = 1_000;
const PRELOAD_LANES = 4;
const STALL_MS = 30_000;
const LOOK_MS = 50;

/**
 * Loads the tasks through SubmitTasks, then starts the workers and lets them take all. The time is Postgres's own, from the first
 * grant to the last outcome: the start of a worker process is not in it, nor in the CPU; its warming up is.
 *
 * @param spec of the n-th task; default a no-op task
 */
export async function measureDrain(
  server: BenchServer,
  options: BenchOptions,
  shape: { workers: number; slots: number },
  spec: (n: number) => TaskSpec = noopSpec,
): Promise<DrainRun> {
  const { tasks } = options;
  await using product = await startProduct(server, options);
  const { sql } = product.database;
  const client = connect(product.url);
  const withStatements = options.statements && server.hasStatements;

  const loadedFrom = product.readCpu();
  let left = tasks;
  await inLanes(
    PRELOAD_LANES,
    () => left > 0,
    () => {
      const count = Math.min(left, PRELOAD_CALL);
      const begin = tasks - left;
      left -= count;
      return submitBulk(client, count, (n) => spec(begin + n));
    },
  );
  const loadedAt = product.readCpu();
  const loadSeconds = (loadedAt.atMs - loadedFrom.atMs) / 1000;
  // What autovacuum would do during the run, and the checkpoint that the load has earned, before it.
  await sql`vacuum analyze`;
  await sql`checkpoint`;
  if (withStatements) await resetStatements(sql);

  await product.addWorkers(shape.workers, shape.slots);
  const from = product.readCpu();
  await whenSucceeded(client, tasks, product.logs);
  const cpu = cpuShare(from, product.readCpu(), tasks);
  const statements = withStatements ? await readStatements(sql, tasks) : undefined;
  const { seconds, ...history } = await verifyHistory(sql, tasks);
  return {
    who: 'baton',
    ...shape,
    tasks,
    tasksPerSecond: tasks / seconds,
    seconds,
    cpu,
    history,
    preload: {
      tasksPerSecond: tasks / loadSeconds,
      seconds: loadSeconds,
      cpu: cpuShare(loadedFrom, loadedAt, tasks),
    },
    ...(statements && { statements }),
  };
}

/** The master's own counter: cheap to read, and Postgres is not asked while it is measured. */
export async function whenSucceeded(client: GrpcClient, tasks: number, logs: () => string): Promise<void> {
  let before = -1;
  let changedAt = performance.now();
  for (;;) {
    const { metrics } = await client.system.getMetrics({ names: ['baton_tasks_succeeded_total'] });
    const succeeded = metrics[0]!.value;
    if (succeeded >= tasks) return;
    if (succeeded !== before) {
      before = succeeded;
      changedAt = performance.now();
    } else if (performance.now() - changedAt > STALL_MS) {
      throw new StalledError(`${succeeded} of ${tasks} tasks, and none for ${STALL_MS} ms\n${logs()}`);
    }
    await sleep(LOOK_MS);
  }
}
