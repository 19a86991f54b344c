import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { createBaton, type TaskSubmission } from '@baton/client';
import { startContainers, startStack, type TestContainers } from '@baton/testkit';
import { grpcService, httpService } from '../executors/json-services.ts';
import { type CpuShare, cpuShare, readCpu, treeSeconds } from './cpu.ts';
import { WrongResultError } from './functions.ts';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './server.ts';
import { type Percentiles, percentiles } from './statistics.ts';

/** The same small task by one way of carrying tasks out. Times are those of the caller, from the call of submit to the result. */
export interface ExecutorRun {
  way: Way;
  /** Callers, each of which waits for its result before it submits the next. The worker has as many slots as the most of them. */
  atOnce: number;
  tasks: number;
  /** Null: it was not run; `notRun` says why. */
  perSecond: number | null;
  taskMs: Percentiles | null;
  /** What a task takes longer than a function in the main thread, of the same callers in the same repetition. */
  overheadP50Ms: number | null;
  overheadP99Ms: number | null;
  /** Per task. Services of `grpc` and `http` are in the client's process. */
  cpu: CpuShare | null;
  /** Per task: processes below the worker; of containers the daemon's, as far as it waits for them. */
  childrenUs: number | null;
  notRun?: string;
}

export type Way =
  | 'function'
  | 'function in a thread'
  | 'function in a process'
  | 'process, cold'
  | 'process, warm'
  | 'grpc'
  | 'http'
  | 'container, cold';

const INPUT = { household: 'iowa-17', kwh: [0.4, 1.25, 0.9] };
/** A container takes about a thousand times as long as a function: so many times fewer of them are run. */
const FEWER_CONTAINERS = 20;
const PROGRAM = fileURLToPath(new URL('executors.program.ts', import.meta.url));
/** Of a shell, cold: what it is handed is its output. */
const COPY = ['sh', '-c', 'cat "$BATON_INPUT_FILE" > "$BATON_OUTPUT_FILE"'];

/** Each way on a database of its own, with processes of its own, one after the other; each with few and with many callers. */
export async function measureExecutors(
  server: BenchServer,
  options: Pick<BenchOptions, 'tasks' | 'concurrency'>,
  onRun: (run: ExecutorRun) => void,
): Promise<ExecutorRun[]> {
  await using grpc = await grpcService((input) => input);
  await using http = await httpService((input) => input);
  let notRun = '';
  const containers = await startContainers().catch((error: Error) => {
    notRun = error.message;
    return undefined;
  });
  const tasks: Record<Way, TaskSubmission | null> = {
    function: { kind: 'echo-main' },
    'function in a thread': { kind: 'echo-thread' },
    'function in a process': { kind: 'echo-process' },
    'process, cold': { kind: 'echo', executor: { type: 'process', command: COPY } },
    'process, warm': {
      kind: 'echo',
      // Not replaced while it is measured.
      executor: { type: 'process', command: [process.execPath, PROGRAM], keepWarm: true, warmTasks: 1_000_000 },
    },
    grpc: { kind: 'echo', executor: { type: 'grpc', address: grpc.address, method: 'test.Json/Run' } },
    http: { kind: 'echo', executor: { type: 'http', url: http.address } },
    'container, cold':
      containers === undefined
        ? null
        : { kind: 'echo', executor: { type: 'container', image: containers.image, command: COPY, network: 'none' } },
  };
  const runs: ExecutorRun[] = [];
  try {
    for (const [way, task] of Object.entries(tasks) as [Way, TaskSubmission | null][]) {
      const measured =
        task === null
          ? options.concurrency.map((atOnce) => notMeasured(way, atOnce, notRun))
          : await measureWay(server, options, way, task, containers);
      for (const run of measured) {
        const base = runs.find((each) => each.way === 'function' && each.atOnce === run.atOnce)?.taskMs ?? run.taskMs;
        if (run.taskMs !== null && base !== null) {
          run.overheadP50Ms = run.taskMs.p50 - base.p50;
          run.overheadP99Ms = run.taskMs.p99 - base.p99;
        }
        runs.push(run);
        onRun(run);
      }
    }
  } finally {
    await containers?.close();
  }
  return runs;
}

function notMeasured(way: Way, atOnce: number, notRun: string): ExecutorRun {
  const nothing = {
    perSecond: null,
    taskMs: null,
    overheadP50Ms: null,
    overheadP99Ms: null,
    cpu: null,
    childrenUs: null,
  };
  return { way, atOnce, tasks: 0, ...nothing, notRun };
}

async function measureWay(
  server: BenchServer,
  { tasks, concurrency }: Pick<BenchOptions, 'tasks' | 'concurrency'>,
  way: Way,
  task: TaskSubmission,
  containers: TestContainers | undefined,
): Promise<ExecutorRun[]> {
  const isContainer = way === 'container, cold';
  await using database = await server.freshDatabase();
  await using stack = await startStack({
    workers: 1,
    databaseUrl: database.url,
    tasksModule: new URL('executors.tasks.ts', import.meta.url),
    masterEnv: { BATON_LEASE_TTL_MS: undefined, BATON_HEARTBEAT_MS: undefined, BATON_SWEEP_MS: undefined },
    workerEnv: {
      BATON_WORKER_SLOTS: String(Math.max(...concurrency)),
      BATON_HTTP_ALLOW: '127.0.0.0/8',
      ...(containers && {
        BATON_CONTAINER_SOCKET: containers.socketPath,
        BATON_CONTAINER_NETWORKS: 'none',
        BATON_CONTAINER_ULIMITS: 'nofile=1024:4096,nproc=4096:4096',
      }),
    },
  });
  const baton = createBaton({ url: stack.url });
  const worker = stack.workers[0]!.pid;
  const processes = { postmaster: server.postmaster, master: stack.master.pid, workers: [worker] };
  const childSeconds = () =>
    treeSeconds(worker, { isRootCounted: false }) +
    (isContainer ? treeSeconds(containers!.servicePid, { isRootCounted: true }) : 0);

  const callers = async (atOnce: number, count: number): Promise<number[]> => {
    const times: number[] = [];
    let begun = 0;
    const caller = async () => {
      while (begun < count) {
        begun++;
        const from = performance.now();
        const output = await (await baton.tasks.submit({ ...task, input: INPUT })).result();
        times.push(performance.now() - from);
        if (!isDeepStrictEqual(output, INPUT)) throw new WrongResultError(`${way} gave ${JSON.stringify(output)}`);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, caller));
    return times;
  };

  const runs: ExecutorRun[] = [];
  const count = isContainer ? Math.ceil(tasks / FEWER_CONTAINERS) : tasks;
  for (const atOnce of concurrency) {
    // Connections, prepared statements, what is kept warm.
    await callers(atOnce, isContainer ? 1 : Math.max(4 * atOnce, Math.ceil(count / 5)));
    const [from, childrenFrom] = [readCpu(processes), childSeconds()];
    const times = await callers(atOnce, count);
    const [to, children] = [readCpu(processes), childSeconds() - childrenFrom];
    const seconds = (to.atMs - from.atMs) / 1_000;
    const cpu = cpuShare(from, to, count);
    const childrenUs = (children * 1e6) / count;
    runs.push({
      way,
      atOnce,
      tasks: count,
      perSecond: count / seconds,
      taskMs: percentiles(times),
      overheadP50Ms: null,
      overheadP99Ms: null,
      cpu: {
        ...cpu,
        totalUs: cpu.totalUs + childrenUs,
        foreignCores: Math.max(0, cpu.foreignCores - children / seconds),
      },
      childrenUs,
    });
  }
  return runs;
}
