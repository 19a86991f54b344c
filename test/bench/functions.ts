import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createBaton } from '@baton/client';
import { type Stack, startStack } from '@baton/testkit';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './server.ts';

/** What one way of running durable functions does. Times are those of the caller. */
export interface FunctionRun {
  who: 'baton' | 'dbos';
  /** `steps`: one function of so many steps. `runs`: functions of three steps, so many callers at once, each of which waits for its result. */
  what: 'steps' | 'runs';
  atOnce: number;
  count: number;
  perSecond: number;
}

const OWN_DEFAULTS = { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined };
const STEPS = 1_000;
const CALLERS = 16;
const RUNS = 2_000;

/**
 * Baton (one master, one worker with a slot for each caller, and the callers) and DBOS (callers and functions in one process, no queue)
 * do the same on the same server, one after the other.
 */
export async function measureFunctions(
  server: BenchServer,
  options: Pick<BenchOptions, 'cpuProfileDir'>,
  onRun: (run: FunctionRun) => void,
): Promise<FunctionRun[]> {
  const runs = [...(await measureBaton(server, options.cpuProfileDir)), await measureDbos(server)];
  for (const run of runs) onRun(run);
  return runs;
}

async function measureBaton(server: BenchServer, cpuProfileDir: string | null): Promise<FunctionRun[]> {
  await using database = await server.freshDatabase();
  const profiling = cpuProfileDir === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${cpuProfileDir}` };
  await using stack = await startStack({
    workers: 1,
    databaseUrl: database.url,
    tasksModule: new URL('functions.tasks.ts', import.meta.url),
    env: profiling,
    masterEnv: OWN_DEFAULTS,
    workerEnv: { BATON_WORKER_SLOTS: String(CALLERS) },
  });
  const baton = createBaton({ url: stack.url });
  const run = async (id: string, input: number, expected: number) => {
    const { output } = await (await baton.runs.start(id, { input })).result();
    if (output !== expected) throw new WrongResultError(`${id} gave ${output}, not ${expected}`);
  };
  const callers = async (count: number) => {
    let begun = 0;
    const caller = async () => {
      while (begun < count) {
        const start = begun++;
        await run('add-three', start, start + 3);
      }
    };
    return perSecond(count, () => Promise.all(Array.from({ length: CALLERS }, caller)));
  };
  // Prepared statements, compiled code.
  await run('many-steps', 200, 200);
  await callers(200);
  const steps = await perSecond(STEPS, () => run('many-steps', STEPS, STEPS));
  const three = await callers(RUNS);
  if (cpuProfileDir !== null) await endInOrder(stack);
  return [
    { who: 'baton', what: 'steps', atOnce: 1, count: STEPS, perSecond: steps },
    { who: 'baton', what: 'runs', atOnce: CALLERS, count: RUNS, perSecond: three },
  ];
}

async function measureDbos(server: BenchServer): Promise<FunctionRun> {
  await using database = await server.freshDatabase();
  const program = fileURLToPath(new URL('peers/dbos.ts', import.meta.url));
  const args = ['--no-deprecation', program, database.url, String(CALLERS), String(RUNS)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { runs, seconds } = JSON.parse(stdout) as { runs: number; seconds: number };
  return { who: 'dbos', what: 'runs', atOnce: CALLERS, count: runs, perSecond: runs / seconds };
}

async function perSecond(count: number, work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return count / ((performance.now() - from) / 1_000);
}

/** The bench measured something else than it meant to. */
export class WrongResultError extends Error {
  override readonly name = 'WrongResultError';
}

/** A profile is written by a process that ends in order. */
async function endInOrder(stack: Stack): Promise<void> {
  await stack.workers[0]!.kill('SIGTERM');
  await stack.master.kill('SIGTERM');
}
