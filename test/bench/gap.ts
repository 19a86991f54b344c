import { fileURLToPath } from 'node:url';
import { createBaton, type TaskSubmission } from '@baton/client';
import { startStack } from '@baton/testkit';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './server.ts';
import { type Percentiles, percentiles } from './statistics.ts';

/** What a worker does between two tasks. */
export interface GapRun {
  /** How the tasks were carried out: functions in the main thread, in a warm thread or process, or a program that stays. */
  way: 'function' | 'thread' | 'process' | 'program';
  /** What they queue for: the one slot, or the one device (simulated) of a worker of four slots, which each of them asks for. */
  on: 'slot' | 'device';
  tasks: number;
  /** Each task's own length. */
  taskMs: number;
  /** From the last line of a task's code to the first of the next one's. */
  gapMs: Percentiles;
}

const PROGRAM = fileURLToPath(new URL('gap.program.ts', import.meta.url));
const WAYS: Readonly<Record<GapRun['way'], Pick<TaskSubmission, 'kind' | 'executor'>>> = {
  function: { kind: 'gap-main' },
  thread: { kind: 'gap-thread' },
  process: { kind: 'gap-process' },
  program: {
    kind: 'gap-program',
    // Not replaced while it is measured: what a replacement costs is the start of the program.
    executor: { type: 'process', command: [process.execPath, PROGRAM], keepWarm: true, warmTasks: 1_000_000 },
  },
};
const WORKERS: Readonly<Record<GapRun['on'], Record<string, string>>> = {
  slot: { BATON_WORKER_SLOTS: '1' },
  device: { BATON_WORKER_SLOTS: '4', BATON_SIMULATED_GPUS: '1xH100:80' },
};
/** Before it is measured: the first finds nothing warm, and the worker does not know yet how short they are. */
const WARM_UP = 50;
const TASK_MS = 10;

/** Tasks wait, and one worker takes them one after the other: it has one slot, or one device, and they ask for it. */
export async function measureGaps(
  server: BenchServer,
  options: Pick<BenchOptions, 'tasks'>,
  onRun: (run: GapRun) => void,
): Promise<GapRun[]> {
  const runs: GapRun[] = [];
  for (const on of ['slot', 'device'] as const) {
    for (const way of Object.keys(WAYS) as GapRun['way'][]) {
      const gaps = await gapsOf(server, way, on, options.tasks);
      const run: GapRun = { way, on, tasks: options.tasks, taskMs: TASK_MS, gapMs: percentiles(gaps) };
      runs.push(run);
      onRun(run);
    }
  }
  return runs;
}

async function gapsOf(server: BenchServer, way: GapRun['way'], on: GapRun['on'], tasks: number): Promise<number[]> {
  await using database = await server.freshDatabase();
  await using stack = await startStack({
    workers: 1,
    databaseUrl: database.url,
    tasksModule: new URL('gap.tasks.ts', import.meta.url),
    masterEnv: { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined },
    workerEnv: WORKERS[on],
  });
  const baton = createBaton({ url: stack.url });
  const resources = on === 'device' ? { resources: { gpus: 1, cpus: 0, memoryBytes: 0 } } : {};
  const handles = await Promise.all(
    Array.from({ length: WARM_UP + tasks }, () =>
      baton.tasks.submit<[number, number]>({ ...WAYS[way], ...resources, input: TASK_MS }),
    ),
  );
  const times = await Promise.all(handles.map((handle) => handle.result()));
  times.sort(([a], [b]) => a - b);
  return times.slice(WARM_UP).map(([began], i) => began - times[WARM_UP + i - 1]![1]);
}
