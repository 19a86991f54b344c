import { createBaton } from '@baton/client';
import { type Stack, startStack } from '@baton/testkit';
import type { BenchServer } from './server.ts';

/** What durable functions cost. Times are those of the caller. */
export interface FunctionFigures {
  /** One function after the other, of so many steps each. */
  readonly steps: number;
  readonly stepsPerSecond: number;
  /** Functions of three steps, so many callers at once, each of which waits for its result before it starts the next. */
  readonly callers: number;
  readonly runs: number;
  readonly runsPerSecond: number;
}

export interface FunctionBench {
  readonly steps: number;
  readonly callers: number;
  readonly runs: number;
  /** Where master and worker leave profiles of their CPU. */
  readonly cpuProfileDir: string | null;
}

const OWN_DEFAULTS = { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined };

/** Measures durable functions on one master and one worker with a slot for each caller. */
export async function measureFunctions(server: BenchServer, bench: FunctionBench): Promise<FunctionFigures> {
  await using database = await server.freshDatabase();
  const profiling =
    bench.cpuProfileDir === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${bench.cpuProfileDir}` };
  await using stack = await startStack({
    workers: 1,
    databaseUrl: database.url,
    tasksModule: new URL('functions.tasks.ts', import.meta.url),
    env: profiling,
    masterEnv: OWN_DEFAULTS,
    workerEnv: { BATON_WORKER_SLOTS: String(bench.callers) },
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
    const from = performance.now();
    await Promise.all(Array.from({ length: bench.callers }, caller));
    return count / ((performance.now() - from) / 1_000);
  };
  // Prepared statements, compiled code.
  await run('many-steps', 200, 200);
  await callers(Math.min(200, bench.runs));
  const from = performance.now();
  await run('many-steps', bench.steps, bench.steps);
  const stepsPerSecond = bench.steps / ((performance.now() - from) / 1_000);
  const runsPerSecond = await callers(bench.runs);
  if (bench.cpuProfileDir !== null) await endInOrder(stack);
  return { steps: bench.steps, stepsPerSecond, callers: bench.callers, runs: bench.runs, runsPerSecond };
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
