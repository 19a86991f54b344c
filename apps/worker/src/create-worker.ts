import { hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { TaskClassName } from '@baton/client';
import type { FunctionClock } from '@baton/client/durable';
import { TaskClass } from '@baton/contract';
import {
  type ContainerRules,
  canRunProcesses,
  containerExecutor,
  functionExecutor,
  grpcExecutor,
  httpExecutor,
  isRunnable,
  processExecutor,
  type Runnable,
  type TaskSource,
} from '@baton/executors';
import { type DeviceOptions, type Machine, readMachine } from '@baton/hardware';
import {
  createWorkerRuntime,
  type Executor,
  type StateName,
  type WorkerRuntime,
  type WorkerRuntimeOptions,
} from '@baton/runtime';
import { createLogger, type Logger } from '@baton/telemetry';
import manifest from '../package.json' with { type: 'json' };
import { type HealthOptions, toolsOf, watchMachine } from './watch-machine.ts';

/** What a worker is made of. Everything has a default. */
export interface WorkerOptions {
  /**
   * Of a master, or of several of one Postgres: the worker uses one at a time, and goes on at another, with all that it runs, when that
   * one is gone. Default http://127.0.0.1:7800.
   */
  readonly url?: string | readonly string[];
  /** Default "default". */
  readonly namespace?: string;
  /** Stable over restarts, unique in the namespace: a second worker of the same name takes the first one's place. Default: the host's name. */
  readonly name?: string;
  /**
   * The tasks that it carries out: an array, a module (`import * as tasks from './tasks.ts'`) whose tasks are taken, or
   * what `loadTasks` gives.
   */
  readonly tasks?: Iterable<Runnable> | TaskSource | Readonly<Record<string, unknown>>;
  /** Tags that tasks may ask for. The worker has `worker:<name>` in any case. */
  readonly tags?: readonly string[];
  /** Classes of tasks that it takes. Default cpu_short and cpu_long. */
  readonly classes?: readonly TaskClassName[];
  /** Queues that it takes from. Default: all. */
  readonly queues?: readonly string[];
  /** Tasks at once. Default: the processors of the machine. */
  readonly slots?: number;
  /** Where WorkerService (status, cancel, drain, execute, logs) is served. 0: any free port; `null`, the default: nowhere. */
  readonly port?: number | null;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Exact origins whose pages may call WorkerService. */
  readonly corsOrigins?: readonly string[];
  /** How long a drain lets tasks run, in milliseconds. Default: what the master says, 30 000. */
  readonly drainGraceMs?: number;
  /** The most leases held beyond the slots while tasks are short. Default 2 000. */
  readonly prefetchCap?: number;
  /** Where requests of http tasks may go: `public`, addresses, ranges, hosts, each with an optional port. Default `public`. */
  readonly httpAllow?: readonly string[];
  /** Where Docker's API is, and what containers may be given. Default: no containers. */
  readonly containers?: { readonly socketPath: string; readonly rules?: ContainerRules } | undefined;
  /** Programs that process tasks may start, by path or name; `any` (the default); or `none`, and no process tasks. Never on Windows. */
  readonly processAllow?: readonly string[] | 'any' | 'none';
  /** Where the programs of tasks have their directories. Default: one in the system's for temporary files. */
  readonly taskDirectory?: string;
  /** What every program of a task finds around it. Default: a PATH, and LANG. */
  readonly programVariables?: Readonly<Record<string, string>>;
  /** Variables that tasks may be handed where they ask for them by `environment.pass`, by name. Default: none. */
  readonly taskVariables?: Readonly<Record<string, string>>;
  /**
   * Where files lie that tasks are handed and produce, and how many bytes of them stay. Workers of one machine may share a directory.
   * Default: `baton-cache` in the system's directory for temporary files, 10 GiB.
   */
  readonly cache?: { readonly directory?: string; readonly maxBytes?: number };
  /** Whether messages from 1 KiB on travel compressed. Default `auto`: unless the master is on this machine. */
  readonly compression?: WorkerRuntimeOptions['compression'];
  /** What is said of the machine in place of what is found: fewer processors, less memory. */
  readonly machine?: Partial<Machine>;
  /** Programs that are looked for on the PATH and told with their versions. Default: a list of usual ones. */
  readonly tools?: readonly string[];
  /** Where GPUs are read from, which of them are this worker's, or which are declared to be simulated. Default: all that are found. */
  readonly gpus?: DeviceOptions;
  /** How the machine's health is watched, and what stops new work. */
  readonly health?: HealthOptions;
  /** Default: lines for people on stderr, from `info`. */
  readonly log?: Logger;
  /** Ways of carrying tasks out beside `function` and `grpc`, which are built in. */
  readonly executors?: readonly Executor[];
  /** What only a test needs: see `@baton/cli/testing`. */
  readonly underTest?: WorkerUnderTest;
}

/** How a worker is held by a test. */
export interface WorkerUnderTest {
  /** Stands between the worker and each way of carrying tasks out: sees what begins and ends, and may do something else. */
  around(executor: Executor): Executor;
  /** Of durable functions. */
  readonly clock: FunctionClock;
}

export interface Worker {
  readonly name: string;
  /** Resolves when a master has taken it; tries until then. Rejects when it is stopped before, or its port is taken. */
  start(): Promise<void>;
  /** Takes no new work, finishes what it holds within the grace, hands back the rest, leaves. */
  drain(reason?: string): Promise<void>;
  /** Hands back what it holds and ends now. */
  stop(reason?: string): Promise<void>;
  readonly state: StateName;
  /** Where WorkerService is served; undefined where it is not. */
  readonly url: string | undefined;
  /** Resolves with the reason when everything has ended. */
  readonly stopped: Promise<string>;
  /** What its cache of files did since it began. */
  readonly cacheStats: WorkerRuntime['cacheStats'];
}

const taskClasses: Readonly<Record<TaskClassName, TaskClass>> = {
  cpu_short: TaskClass.CPU_SHORT,
  cpu_long: TaskClass.CPU_LONG,
  gpu: TaskClass.GPU,
  gpu_slurm: TaskClass.GPU_SLURM,
};

/**
 * Makes a worker that carries out tasks:
 *
 * ```ts
 * const worker = createWorker({ tasks: [greet] });
 * await worker.start();
 * ```
 *
 * Throws `WorkerOptionsError` for options that cannot work, `DuplicateTaskError` for two tasks of one id.
 */
export function createWorker(options: WorkerOptions = {}): Worker {
  const machine = { ...readMachine(), ...options.machine };
  const name = options.name ?? hostname();
  const { underTest, log = createLogger({ name: 'worker' }) } = options;
  const executors: Executor[] = [
    functionExecutor(tasksOf(options.tasks ?? []), underTest?.clock),
    grpcExecutor(),
    ...processes(options, log),
    httpExecutor({ ...(options.httpAllow && { allow: options.httpAllow }) }),
    ...(options.containers ? [containerExecutor({ ...options.containers, worker: name, log })] : []),
    ...(options.executors ?? []),
  ];
  const { classes = [] } = options;
  const health = watchMachine({
    ...(options.health && { health: options.health }),
    ...(options.gpus && { gpus: options.gpus }),
    needsDevice: classes.length > 0 && classes.every((each) => each === 'gpu' || each === 'gpu_slurm'),
    keptDevices: () => executors.flatMap((executor) => executor.warmDevices?.() ?? []),
    log: log.child({ worker: name }),
    runtime: () => runtime,
  });
  const runtime: WorkerRuntime = createWorkerRuntime({
    masterUrl: options.url ?? 'http://127.0.0.1:7800',
    namespace: options.namespace,
    name,
    version: manifest.version,
    executors: underTest ? executors.map((executor) => underTest.around(executor)) : executors,
    // A test's code stops at breakpoints, and its worker is lost when the test says so.
    heartbeatInThread: underTest === undefined,
    capabilities: {
      os: machine.os,
      arch: machine.arch,
      cpus: machine.cpus,
      memoryBytes: BigInt(machine.memoryBytes),
      hostname: machine.hostname,
      pid: process.pid,
      slots: options.slots ?? machine.cpus,
      taskClasses: classes.map((each) => taskClasses[each]),
      tags: [...(options.tags ?? [])],
      queues: [...(options.queues ?? [])],
    },
    servicePort: options.port === undefined ? null : options.port,
    serviceHost: options.host,
    corsOrigins: options.corsOrigins,
    drainGraceMs: options.drainGraceMs,
    prefetchCap: options.prefetchCap,
    taskVariables: options.taskVariables,
    cache: options.cache,
    compression: options.compression,
    health,
    devices: health,
    tools: toolsOf(options.tools),
    log,
  } satisfies WorkerRuntimeOptions);
  return {
    name,
    start: () => runtime.start(),
    drain: (reason = 'asked to') => runtime.drain(reason),
    stop: (reason = 'asked to') => runtime.shutdown(reason),
    get state() {
      return runtime.state;
    },
    get url() {
      return runtime.url;
    },
    stopped: runtime.stopped,
    get cacheStats() {
      return runtime.cacheStats;
    },
  };
}

/** What carries process tasks out, where there may be any. */
function processes({ processAllow = 'any', taskDirectory, programVariables }: WorkerOptions, log: Logger): Executor[] {
  if (processAllow === 'none' || !canRunProcesses) {
    return [];
  }
  return [
    processExecutor({
      directory: taskDirectory ?? join(tmpdir(), `baton-tasks-${userInfo().uid}`),
      variables: programVariables ?? {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LANG: 'C.UTF-8',
      },
      ...(processAllow !== 'any' && { allow: processAllow }),
      onEvent: (message, fields) => log.warn(message, fields),
    }),
  ];
}

function tasksOf(tasks: NonNullable<WorkerOptions['tasks']>): Iterable<Runnable> | TaskSource {
  if (Symbol.iterator in tasks) {
    return tasks as Iterable<Runnable>;
  }
  return isTaskSource(tasks) ? tasks : Object.values(tasks).flat().filter(isRunnable);
}

/** What `loadTasks` gives. A module of tasks may export a `get` of its own; it has no list of kinds beside it. */
function isTaskSource(tasks: object): tasks is TaskSource {
  return 'get' in tasks && typeof tasks.get === 'function' && 'kinds' in tasks && Array.isArray(tasks.kinds);
}
