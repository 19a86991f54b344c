import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { type Stack, startStack } from '@baton/testkit';
import { type CpuShare, cpuShare, readCpu } from './cpu.ts';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './server.ts';
import { readCommits, readStatements, resetStatements, type StatementCost } from './statements.ts';

/** What one way of running durable functions does. Times are those of the caller. */
export interface FunctionRun {
  who: 'baton' | 'dbos';
  /** `steps`: one function of so many steps. `runs`: functions of three steps, so many callers at once, each of which waits for its result. */
  what: 'steps' | 'runs';
  atOnce: number;
  count: number;
  perSecond: number;
  /** For each step or run. Of DBOS the worker is its process, callers and all, its start left out. */
  cpu: CpuShare;
  /** Transactions that wrote, or only read, for each step or run. */
  commits: number;
  /** With `--statements`: calls are those of all. */
  statements?: StatementCost[];
}

const OWN_DEFAULTS = { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined };
const CALLERS = 16;

/** Steps of the one function, runs of three steps, and runs before it is measured: connections, prepared statements, compiled code, caches. */
const countsOf = (tasks: number) => ({ steps: tasks, runs: 2 * tasks, warmUp: Math.ceil(0.4 * tasks) });
type Counts = ReturnType<typeof countsOf>;

/**
 * Baton (one master, one worker with a slot for each caller, and the callers) and DBOS (callers and functions in one process, no queue)
 * do the same on the same server, one after the other.
 */
export async function measureFunctions(
  server: BenchServer,
  options: Pick<BenchOptions, 'cpuProfileDir' | 'statements' | 'tasks'>,
  onRun: (run: FunctionRun) => void,
): Promise<FunctionRun[]> {
  const counts = countsOf(options.tasks);
  const runs = [...(await measureBaton(server, options, counts)), await measureDbos(server, counts)];
  for (const run of runs) onRun(run);
  return runs;
}

async function measureBaton(
  server: BenchServer,
  { cpuProfileDir, statements }: Pick<BenchOptions, 'cpuProfileDir' | 'statements'>,
  counts: Counts,
): Promise<FunctionRun[]> {
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
    await Promise.all(Array.from({ length: CALLERS }, caller));
  };
  const processes = {
    postmaster: server.postmaster,
    master: stack.master.pid,
    workers: stack.workers.map((worker) => worker.pid),
  };
  const measure = async (what: FunctionRun['what'], atOnce: number, count: number, work: () => Promise<unknown>) => {
    const withStatements = statements && server.hasStatements;
    if (withStatements) await resetStatements(database.sql);
    const commits = await readCommits(database.sql);
    const from = readCpu(processes);
    await work();
    const to = readCpu(processes);
    const run: FunctionRun = {
      who: 'baton',
      what,
      atOnce,
      count,
      perSecond: count / ((to.atMs - from.atMs) / 1_000),
      cpu: cpuShare(from, to, count),
      commits: ((await readCommits(database.sql)) - commits) / count,
      ...(withStatements && { statements: await readStatements(database.sql, count) }),
    };
    return run;
  };
  // Prepared statements, compiled code.
  await run('many-steps', 200, 200);
  await callers(counts.warmUp);
  const steps = await measure('steps', 1, counts.steps, () => run('many-steps', counts.steps, counts.steps));
  const three = await measure('runs', CALLERS, counts.runs, () => callers(counts.runs));
  if (cpuProfileDir !== null) await endInOrder(stack);
  return [steps, three];
}

async function measureDbos(server: BenchServer, counts: Counts): Promise<FunctionRun> {
  await using database = await server.freshDatabase();
  const program = fileURLToPath(new URL('peers/dbos-steps.ts', import.meta.url));
  const args = ['--no-deprecation', program, database.url, String(CALLERS), String(counts.warmUp), String(counts.runs)];
  const peer = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(peer, 'exit');
  const lines = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();
  const line = async () => {
    const { value, done } = await lines.next();
    if (done) throw new WrongResultError(`DBOS ended with ${(await ended)[0]}`);
    return JSON.parse(value) as { runs?: number; seconds?: number };
  };
  const processes = { postmaster: server.postmaster, master: peer.pid!, workers: [] };
  // It is warm, and waits for a word.
  await line();
  const commits = await readCommits(database.sql);
  const from = readCpu(processes);
  peer.stdin.write('go\n');
  const { runs, seconds } = await line();
  const { masterUs: workerUs, ...cpu } = cpuShare(from, readCpu(processes), counts.runs);
  const run: FunctionRun = {
    who: 'dbos',
    what: 'runs',
    atOnce: CALLERS,
    count: runs!,
    perSecond: runs! / seconds!,
    cpu: { ...cpu, masterUs: 0, workerUs },
    commits: ((await readCommits(database.sql)) - commits) / counts.runs,
  };
  peer.stdin.end();
  await ended;
  return run;
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
