import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Child, type Environment, launchChild } from './child.ts';
import { testDatabase } from './database.ts';
import { programMain, withSourcePlaces } from './programs.ts';

export interface WorkerSetup {
  /** Default w1, w2, … */
  readonly name?: string;
  /** Path or file URL of a module that exports tasks. Default: the stack's. */
  readonly tasksModule?: string | URL;
  /** Over the stack's: BATON_WORKER_CLASSES, BATON_WORKER_SLOTS, BATON_URL (through a proxy), … */
  readonly env?: Environment;
}

export interface StackOptions {
  /** How many, or each in detail. Default 1. */
  readonly workers?: number | readonly WorkerSetup[];
  /** Path or file URL of a module that exports tasks, for every worker. Default: none; then workers only call services. */
  readonly tasksModule?: string | URL;
  /** For every process. */
  readonly env?: Environment;
  /** For the master, over `env`. */
  readonly masterEnv?: Environment;
  /** For each worker, over `env`. */
  readonly workerEnv?: Environment;
  /** Default: a database of its own, dropped at the end. */
  readonly databaseUrl?: string;
  /** What the processes run: default, in a run of vitest, bundles of today's sources, which start in half the time. */
  readonly from?: 'source' | 'bundle';
}

/** A master and workers as processes of their own, over a database of their own. `await using` leaves nothing behind. */
export interface Stack extends AsyncDisposable {
  readonly master: Child;
  /** In the order of their start. */
  readonly workers: readonly Child[];
  /** Of the master. It stays when the master is restarted on the same port. */
  readonly url: string;
  readonly databaseUrl: string;
  /** Where the processes run and log; removed at the end. */
  readonly home: string;
  /** The worker of this name. */
  worker(name: string): Child;
  /** Resolves when the worker is registered. */
  addWorker(setup?: WorkerSetup): Promise<Child>;
  /** A worker that is not waited for: its master may be away. */
  launchWorker(setup?: WorkerSetup): Child;
  /** What every process wrote, one after the other. */
  logs(): string;
  /** Ends every process (SIGKILL), drops the database, removes the files. May be called twice. */
  stop(): Promise<void>;
}

/** A stack has no worker of that name. */
export class NoSuchWorkerError extends Error {
  override readonly name = 'NoSuchWorkerError';
}

/**
 * Starts a master and workers. Leases are short (3 s, heartbeats of 0.5 s) and sweeps frequent (0.1 s), so that tests
 * of lost workers are quick, gates of workers are off, and they look for no tools; `env` goes over that. Inside of a test, what the processes wrote is shown when it fails.
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const home = await mkdtemp(join(tmpdir(), 'baton-stack-'));
  const database = options.databaseUrl === undefined ? await testDatabase({ migrated: true }) : undefined;
  const databaseUrl = options.databaseUrl ?? database!.url;
  const masterMain = await programMain('@baton/master/main', options.from);
  const workerMain = await programMain('@baton/worker/main', options.from);
  // Nothing of the developer's own BATON_* or DATABASE_URL reaches the processes.
  const surroundings: Environment = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
    LOG_DIR: join(home, 'logs'),
    ...options.env,
  };
  const processes: Child[] = [];
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      await Promise.all(processes.filter((each) => each.running).map((each) => each.kill('SIGKILL')));
      await database?.drop();
      await rm(home, { recursive: true, force: true });
    })();
    return stopping;
  };
  const logs = () => withSourcePlaces(processes.map((each) => `==== ${each.name}\n${each.log}`).join('\n'));
  await showWhenTestFails(logs);

  const master = launchChild({
    name: 'master',
    main: masterMain,
    cwd: home,
    portVariable: 'BATON_PORT',
    env: {
      BATON_LEASE_TTL_MS: '3000',
      BATON_HEARTBEAT_MS: '500',
      BATON_SWEEP_MS: '100',
      ...surroundings,
      BATON_PORT: '0',
      DATABASE_URL: databaseUrl,
      ...options.masterEnv,
    },
  });
  processes.push(master);
  const workers: Child[] = [];
  let named = 0;
  const workerOptions = (setup: WorkerSetup) => {
    const name = setup.name ?? `w${++named}`;
    const tasks = setup.tasksModule ?? options.tasksModule;
    return {
      name,
      main: workerMain,
      cwd: home,
      portVariable: 'BATON_WORKER_PORT',
      env: {
        BATON_WORKER_SLOTS: '4',
        // Tests run beside each other: what others use of the machine is no reason to wait.
        BATON_GATES: 'off',
        // Asking a dozen programs for their versions is a quarter of the CPU of a start.
        BATON_WORKER_TOOLS: 'none',
        ...surroundings,
        BATON_URL: master.url,
        BATON_WORKER_NAME: name,
        BATON_WORKER_PORT: '0',
        BATON_WORKER_TASKS: tasks === undefined ? undefined : pathOf(tasks),
        ...options.workerEnv,
        ...setup.env,
      },
    };
  };
  const launchWorker = (setup: WorkerSetup = {}) => {
    const worker = launchChild(workerOptions(setup));
    processes.push(worker);
    workers.push(worker);
    return worker;
  };
  const addWorker = async (setup: WorkerSetup = {}) => {
    const worker = launchWorker(setup);
    await worker.serving;
    return worker;
  };
  try {
    await master.serving;
    const wanted = options.workers ?? 1;
    const setups = typeof wanted === 'number' ? Array.from({ length: wanted }, (): WorkerSetup => ({})) : wanted;
    await Promise.all(setups.map((setup) => addWorker(setup)));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    master,
    workers,
    get url() {
      return master.url;
    },
    databaseUrl,
    home,
    worker(name) {
      const found = workers.find((each) => each.name === name);
      if (!found) throw new NoSuchWorkerError(`no worker is named ${name}`);
      return found;
    },
    addWorker,
    launchWorker,
    logs,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function pathOf(module: string | URL): string {
  return String(module).startsWith('file:') ? fileURLToPath(module) : String(module);
}

/** Outside of a test (in a hook, in a program) there is nobody to tell; `useStack` does it for the tests of a file. */
async function showWhenTestFails(logs: () => string): Promise<void> {
  try {
    const { onTestFailed } = await import('vitest');
    onTestFailed(() => void process.stderr.write(`${logs()}\n`));
  } catch {
    // not in a test
  }
}
