import { createBaton } from '@baton/client';
import { startStack } from '@baton/testkit';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './server.ts';
import { type Percentiles, percentiles } from './statistics.ts';

/** What a worker of one slot does between two tasks. */
export interface GapRun {
  /** How the tasks were carried out. */
  way: 'function' | 'thread' | 'process';
  tasks: number;
  /** Each task's own length. */
  taskMs: number;
  /** From the last line of a task's code to the first of the next one's. */
  gapMs: Percentiles;
}

const WAYS: readonly GapRun['way'][] = ['function', 'thread', 'process'];
const KINDS = { function: 'gap-main', thread: 'gap-thread', process: 'gap-process' } as const;
/** Before it is measured: the first finds nothing warm, and the worker does not know yet how short they are. */
const WARM_UP = 50;
const TASK_MS = 10;

/** Tasks wait, and one worker of one slot, as one that has one GPU, takes them one after the other. */
export async function measureGaps(
  server: BenchServer,
  options: Pick<BenchOptions, 'tasks'>,
  onRun: (run: GapRun) => void,
): Promise<GapRun[]> {
  const runs: GapRun[] = [];
  for (const way of WAYS) {
    await using database = await server.freshDatabase();
    await using stack = await startStack({
      workers: 1,
      databaseUrl: database.url,
      tasksModule: new URL('gap.tasks.ts', import.meta.url),
      masterEnv: { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined },
      workerEnv: { BATON_WORKER_SLOTS: '1' },
    });
    const { tasks } = createBaton({ url: stack.url });
    const count = WARM_UP + options.tasks;
    const handles = await Promise.all(
      Array.from({ length: count }, () => tasks.submit<[number, number]>({ kind: KINDS[way], input: TASK_MS })),
    );
    const times = await Promise.all(handles.map((handle) => handle.result()));
    times.sort(([a], [b]) => a - b);
    const gaps = times.slice(WARM_UP).map(([began], i) => began - times[WARM_UP + i - 1]![1]);
    const run: GapRun = { way, tasks: options.tasks, taskMs: TASK_MS, gapMs: percentiles(gaps) };
    runs.push(run);
    onRun(run);
  }
  return runs;
}
