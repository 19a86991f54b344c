import { type Child, type Stack, startStack } from '@baton/testkit';
import { type CpuProcesses, type CpuReading, readCpu } from './cpu.ts';
import type { BenchOptions } from './options.ts';
import type { BenchDatabase, BenchServer } from './server.ts';

/** The product as it runs: a master and workers as processes of their own, with their own defaults, over a fresh database. */
export interface Product extends AsyncDisposable {
  readonly url: string;
  readonly database: BenchDatabase;
  /** Resolves when they are registered. */
  addWorkers(count: number, slots: number, env?: Readonly<Record<string, string>>): Promise<void>;
  /** `more` are counted as workers. */
  readCpu(more?: readonly number[]): CpuReading;
  readonly masterPid: number;
  workerPids(): number[];
  /** The end of what the processes wrote, for errors. */
  logs(): string;
}

/** The testkit's short leases are for tests: here the product's own defaults hold. */
const OWN_DEFAULTS = { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined };

export async function startProduct(
  server: BenchServer,
  options: BenchOptions,
  tasksModule = new URL('tasks.ts', import.meta.url),
): Promise<Product> {
  const database = await server.freshDatabase();
  const profiling =
    options.cpuProfileDir === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${options.cpuProfileDir}` };
  let stack: Stack;
  try {
    stack = await startStack({
      workers: [],
      databaseUrl: database.url,
      tasksModule,
      env: profiling,
      masterEnv: OWN_DEFAULTS,
    });
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
  const processes = (more: readonly number[]): CpuProcesses => ({
    postmaster: server.postmaster,
    master: stack.master.pid,
    workers: [...stack.workers.map((worker) => worker.pid), ...more],
  });
  return {
    url: stack.url,
    database,
    async addWorkers(count, slots, env = {}) {
      const setup = { env: { BATON_WORKER_SLOTS: String(slots), ...env } };
      await Promise.all(Array.from({ length: count }, () => stack.addWorker(setup)));
    },
    masterPid: stack.master.pid,
    workerPids: () => stack.workers.map((worker) => worker.pid),
    readCpu: (more = []) => readCpu(processes(more)),
    logs: () => stack.logs().split('\n').slice(-60).join('\n'),
    async [Symbol.asyncDispose]() {
      // A profile is written by a process that ends in order.
      if (options.cpuProfileDir !== null) {
        await Promise.all(stack.workers.map((worker) => endInOrder(worker)));
        await endInOrder(stack.master);
      }
      await stack.stop();
      await database[Symbol.asyncDispose]();
    },
  };
}

async function endInOrder(child: Child): Promise<void> {
  if (child.running) await child.kill('SIGTERM');
}
