import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import {
  type Baton,
  createBaton,
  type Duration,
  isTaskDefinition,
  isWorkflowFunction,
  type ResultOf,
  RunCancelled,
  RunFailed,
  type RunView,
  type StartableGraph,
  type StartRunOptions,
  type SubmitOptions,
  TaskCancelled,
  type TaskDefinition,
  type TaskDetails,
  TaskFailed,
  type WorkflowDefinition,
  type WorkflowFunction,
} from '@baton/client';
import { durationMs } from '@baton/client/durable';
import { checkWorkflowFile } from '@baton/client/workflow-file';
import { type MasterConfig, readConfig, startMaster } from '@baton/master';
import { openSql } from '@baton/store';
import { createLogger, type Logger } from '@baton/telemetry';
import { createWorker, loadTasks, type Worker, type WorkerOptions } from '@baton/worker';
import { Activity } from './activity.ts';
import { countLeases, loseSession } from './clock-schema.ts';
import { KitError } from './errors.ts';
import { type Failing, Failings, type FailRule, type FailTarget } from './failing.ts';
import type { KitRun, KitTask } from './handles.ts';
import { makeKitDatabase, makeSpareDatabase } from './test-server.ts';
import { TimeKeeper } from './time-keeper.ts';
import { executorUnderTest, type Instruments, type StepCount, stepsUnderTest } from './under-test.ts';
import { VirtualClock } from './virtual-clock.ts';

// biome-ignore lint/suspicious/noExplicitAny: of any input and output
type AnyTask = TaskDefinition<any, any, any>;
// biome-ignore lint/suspicious/noExplicitAny: of any input and output
type AnyFunction = WorkflowFunction<any, any, any>;

export interface KitOptions {
  /**
   * Tasks and durable functions that the kit's worker carries out: an array, a module (`import * as tasks from './tasks.ts'`), or the path
   * or URL of one.
   */
  readonly tasks?: Iterable<AnyTask | AnyFunction> | Readonly<Record<string, unknown>> | string | URL;
  /**
   * `skip` (default): while the test waits for an end, time is skipped whenever nothing else can happen. `manual`: only `advance` moves
   * the clock.
   */
  readonly clock?: 'skip' | 'manual';
  /** Tasks at once. Default 10. */
  readonly slots?: number;
  /** Of the worker. */
  readonly tags?: WorkerOptions['tags'];
  /** Of the worker. Default cpu_short and cpu_long. */
  readonly classes?: WorkerOptions['classes'];
  /** Declared devices, as a worker may have them: `{ simulated: '2xA100:40' }`. Default: none. */
  readonly gpus?: WorkerOptions['gpus'];
  /**
   * A PostgreSQL whose user may make databases. Default: that of BATON_TEST_DATABASE_URL; else one that the first kit of this process
   * starts and that ends with the process.
   */
  readonly databaseUrl?: string;
  /** Over those of a master, whose breakers and leases never get in the way of a test. */
  readonly settings?: Partial<MasterConfig['settings']>;
  /** How long code may run while time is to pass, ms of the real clock. Default 10 000. */
  readonly patienceMs?: number;
  /** Default: errors, on stderr. */
  readonly log?: Logger;
}

/** What an input may be left out of. */
type Input<Sent> = undefined extends Sent ? [input?: Sent] : [input: Sent];

/** Baton within a test: the real engine, store and worker, a database of its own, and a clock that leaps. */
export interface Kit extends AsyncDisposable {
  /** For everything that the kit has no word of its own for. */
  readonly baton: Baton;
  readonly url: string;
  readonly databaseUrl: string;
  /** Submits a task. */
  run<In, Output, Sent>(
    task: TaskDefinition<In, Output, Sent>,
    input: NoInfer<Sent>,
    options?: SubmitOptions,
  ): Promise<KitTask<ResultOf<Output>>>;
  /** Starts a run of a durable function. */
  run<In, Output, Sent>(
    workflow: WorkflowFunction<In, Output, Sent>,
    ...input: Input<NoInfer<Sent>>
  ): Promise<KitRun<Output>>;
  /** Starts a run of a graph. */
  run<In, Output>(workflow: StartableGraph<In, Output>, ...input: Input<NoInfer<In>>): Promise<KitRun<Output>>;
  /** Starts a run of a workflow file (a path that ends in .json, .yaml or .yml, or a file URL), of a definition, or by name. */
  run(
    workflow: string | URL | WorkflowDefinition,
    input?: unknown,
    options?: Omit<StartRunOptions, 'input'>,
  ): Promise<KitRun>;
  /** The kit's clock, ms since the epoch. */
  now(): number;
  /**
   * Lets time pass, from one due time to the next, with all that becomes due: sleeps, timeouts of signals, retries, `runAt`,
   * schedule-to-start times. Waits for code that runs before and after each leap, unless `whileRunning`.
   * @throws KitError STILL_RUNNING
   */
  advance(duration: Duration, options?: { readonly whileRunning?: boolean }): Promise<void>;
  /**
   * Waits until nothing can happen before time passes.
   * @throws KitError STILL_RUNNING
   */
  settle(): Promise<void>;
  /**
   * Makes a task, a durable function or one of its steps fail.
   * @throws KitError UNKNOWN_TASK
   */
  fail(target: FailTarget, rule: FailRule): Failing;
  /** Loses the worker at this moment, with all that it runs; another one takes its place. Resolves when that one is there. */
  crash(): Promise<void>;
  /** How many attempts at this task have begun, in all. */
  attempts(task: FailTarget): number;
  /** Ends worker and master and removes the database. May be called twice. */
  stop(): Promise<void>;
}

const SLOTS = 10;

/** What decides about workers in production, and would only disturb a test. */
const SETTINGS: Partial<MasterConfig['settings']> = {
  // A breakpoint is no lost worker; `crash` loses one at once.
  leaseTtlMs: 3_600_000,
  heartbeatIntervalMs: 1_000,
  // Old by the kit's clock is not old.
  historyDays: 3_650,
  drainGraceMs: 0,
  // An end that is about to be told would look like nothing to come.
  endsGatherMs: 0,
};

/**
 * Starts a kit: in 0.3 s on 2 cores; the first one of a process, where it starts a PostgreSQL, in 2 to 3 s.
 *
 * ```ts
 * await using kit = await startKit({ tasks: [order, resize] });
 * const run = await kit.run(order, { amount: 12 });   // it sleeps for 24 hours
 * expect(await run.result()).toEqual({ paid: true }); // some milliseconds later
 * ```
 */
export async function startKit(options: KitOptions = {}): Promise<Kit> {
  const definitions = await definitionsOf(options.tasks ?? []);
  const database = await makeKitDatabase(options.databaseUrl);
  try {
    const kit = await KitInstance.start(options, definitions, database);
    makeSpareDatabase();
    return kit;
  } catch (error) {
    await database.drop();
    throw error;
  }
}

class KitInstance implements Kit {
  readonly baton: Baton;
  readonly url: string;
  readonly databaseUrl: string;
  readonly #parts: Parts;
  #stopping: Promise<void> | undefined;

  private constructor(parts: Parts, baton: Baton) {
    this.#parts = parts;
    this.baton = baton;
    this.url = parts.master.url;
    this.databaseUrl = parts.database.url;
  }

  static async start(
    options: KitOptions,
    definitions: ReadonlyMap<string, AnyTask | AnyFunction>,
    database: Parts['database'],
  ): Promise<Kit> {
    const log = options.log ?? createLogger({ name: 'kit', level: 'error' });
    let keeper: TimeKeeper | undefined;
    const noteChange = () => keeper?.noteChange();
    const clock = new VirtualClock(noteChange);
    const base = readConfig({ BATON_PORT: '0', DATABASE_URL: database.url, BATON_HOME: tmpdir() });
    const settings = {
      ...base.settings,
      ...SETTINGS,
      breaker: { ...base.settings.breaker, failures: 1_000_000 },
      ...options.settings,
    };
    const master = await startMaster({ ...base, compressAnswers: false, settings }, log, clock.wallMs);
    const calls = new Activity(noteChange);
    const baton = createBaton({ url: master.url, fetch: countingFetch(calls) });
    const sql = openSql(database.url, { max: 2, applicationName: 'baton kit' });
    const parts: Parts = {
      options,
      definitions,
      database,
      log,
      clock,
      master,
      calls,
      sql,
      failings: new Failings(),
      steps: new Map(),
      attempts: new Map(),
      keeper: new TimeKeeper({
        sql,
        clock,
        engine: master.engine,
        worker: () => parts.worker!.activity,
        calls,
        slots: options.slots ?? SLOTS,
        skips: options.clock !== 'manual',
        patienceMs: options.patienceMs ?? 10_000,
        describe: (waiting) => describeWaiting(baton, waiting),
      }),
      noteChange,
      worker: undefined,
      workers: 0,
      leaving: [],
    };
    keeper = parts.keeper;
    const kit = new KitInstance(parts, baton);
    try {
      await kit.#startWorker();
    } catch (error) {
      await kit.stop();
      throw error;
    }
    return kit;
  }

  // biome-ignore lint/suspicious/noExplicitAny: the overloads of Kit say what it takes and gives
  async run(what: any, input?: any, options?: any): Promise<any> {
    if (isTaskDefinition(what)) {
      this.#known(what);
      return this.#runTask(what, input, options);
    }
    if (isWorkflowFunction(what)) this.#known(what);
    const source = isFile(what) ? await definitionOf(what) : what;
    const start = this.baton.runs.start as (source: unknown, options: StartRunOptions) => Promise<{ id: string }>;
    const { id } = await start.call(this.baton.runs, source, { ...options, input });
    return this.#runHandle(id);
  }

  async #runTask(task: AnyTask, input: unknown, options: SubmitOptions = {}): Promise<KitTask> {
    const { delayMs, ...rest } = options;
    // The client's clock is the machine's.
    const runAt = delayMs === undefined ? rest.runAt : new Date(this.now() + delayMs);
    const { scheduleToStartTimeoutMs, progressTimeoutMs } = task;
    const handle = await this.baton.enqueue(task, input, {
      scheduleToStartTimeoutMs,
      progressTimeoutMs,
      ...rest,
      runAt,
    });
    const result = () =>
      this.#parts.keeper.wait(
        `task ${handle.id}`,
        handle.id,
        (signal) => handle.result({ signal }) as Promise<unknown>,
      );
    return {
      id: handle.id,
      result,
      end: async () => {
        await result().catch(endsOnly);
        return handle.status() as Promise<TaskDetails>;
      },
      status: () => handle.status() as Promise<TaskDetails>,
      cancel: (reason) => handle.cancel(reason),
    };
  }

  #runHandle(id: string): KitRun {
    const handle = this.baton.runs.handle(id);
    const ended = <T>(end: (signal: AbortSignal) => Promise<T>) => this.#parts.keeper.wait(`run ${id}`, id, end);
    return {
      id,
      result: () => ended((signal) => handle.output({ signal })),
      end: async () => {
        await ended((signal) => handle.result({ signal })).catch(endsOnly);
        return handle.status();
      },
      status: () => handle.status(),
      nodes: async () => nodesByName(await handle.status()),
      journal: async () => (await this.baton.runs.journal(id)).entries,
      steps: () => [...this.#parts.steps.values()].filter((step) => step.runId === id),
      signal: (name, payload, options) => handle.signal(name, payload, options),
      cancel: (reason) => handle.cancel(reason),
      retry: (options) => handle.retry(options),
    };
  }

  now(): number {
    return this.#parts.clock.wallMs();
  }

  advance(duration: Duration, { whileRunning = false } = {}): Promise<void> {
    return this.#parts.keeper.advance(durationMs(duration), whileRunning);
  }

  settle(): Promise<void> {
    return this.#parts.keeper.settle();
  }

  fail(target: FailTarget, rule: FailRule): Failing {
    const id = typeof target === 'string' ? target : target.id;
    if (typeof target !== 'string') this.#known(target);
    if (rule.step !== undefined && !isWorkflowFunction(this.#parts.definitions.get(id)))
      throw new KitError('UNKNOWN_TASK', `"${id}" has no step "${rule.step}": it is no durable function of this kit`);
    return this.#parts.failings.add(id, rule);
  }

  attempts(task: FailTarget): number {
    return this.#parts.attempts.get(typeof task === 'string' ? task : task.id) ?? 0;
  }

  crash(): Promise<void> {
    const { calls, master, sql } = this.#parts;
    const { worker: old } = this.#parts.worker!;
    return calls.during('the loss of the worker', async () => {
      const sessionId = await loseSession(sql, old.name);
      // By the way that every lost worker goes: a sweep finds its session over, and takes its leases back.
      do await master.engine.look();
      while (sessionId !== null && (await countLeases(sql, sessionId)) > 0);
      this.#parts.leaving.push(old.stop('lost by the test').catch(() => {}));
      await this.#startWorker();
    });
  }

  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      const { keeper, worker, leaving, master, sql, database } = this.#parts;
      keeper.stop();
      await Promise.all([worker?.worker.stop('the kit ends'), ...leaving]);
      await master.stop();
      await sql.end({ timeout: 5 });
      await database.drop();
    })();
    return this.#stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** In the place of the one before, whose code is nothing to anybody any more. */
  async #startWorker(): Promise<void> {
    const parts = this.#parts;
    const { definitions, options, failings, clock, log } = parts;
    const activity = new Activity(parts.noteChange);
    const instruments: Instruments = {
      activity,
      failings,
      crash: () => void this.crash().catch((error) => log.error('the worker could not be lost', { error })),
      attempted: (kind) => parts.attempts.set(kind, (parts.attempts.get(kind) ?? 0) + 1),
      stepBegins: (runId, step, stepKey) => {
        const before = parts.steps.get(stepKey) ?? { runId, step, stepKey, tries: 0, completions: 0 };
        parts.steps.set(stepKey, { ...before, tries: before.tries + 1 });
      },
      stepCompletes: (stepKey) => {
        const step = parts.steps.get(stepKey)!;
        parts.steps.set(stepKey, { ...step, completions: step.completions + 1 });
      },
    };
    const worker = createWorker({
      url: parts.master.url,
      name: `kit-worker-${++parts.workers}`,
      tasks: [...definitions.values()].map((each) =>
        isWorkflowFunction(each) ? stepsUnderTest(each, instruments) : each,
      ) as WorkerOptions['tasks'],
      slots: options.slots ?? SLOTS,
      tags: options.tags,
      classes: options.classes,
      health: { gates: false, intervalMs: 3_600_000 },
      gpus: options.gpus ?? { source: 'none' },
      log,
      underTest: {
        around: (executor) =>
          executorUnderTest(executor, (kind) => isWorkflowFunction(definitions.get(kind)), instruments),
        clock,
      },
    });
    parts.worker = { worker, activity };
    await worker.start();
  }

  #known({ id }: AnyTask | AnyFunction): void {
    if (!this.#parts.definitions.has(id))
      throw new KitError(
        'UNKNOWN_TASK',
        `the kit was not given "${id}": startKit({ tasks: [${id}] })${listOfKnown(this.#parts.definitions)}`,
      );
  }
}

interface Parts {
  readonly options: KitOptions;
  readonly definitions: ReadonlyMap<string, AnyTask | AnyFunction>;
  readonly database: Awaited<ReturnType<typeof makeKitDatabase>>;
  readonly log: Logger;
  readonly clock: VirtualClock;
  readonly master: Awaited<ReturnType<typeof startMaster>>;
  readonly calls: Activity;
  readonly sql: ReturnType<typeof openSql>;
  readonly failings: Failings;
  /** By step key. */
  readonly steps: Map<string, StepCount>;
  /** By kind. */
  readonly attempts: Map<string, number>;
  readonly keeper: TimeKeeper;
  readonly noteChange: () => void;
  worker: { readonly worker: Worker; readonly activity: Activity } | undefined;
  workers: number;
  /** Lost ones, whose code may need a moment to end. */
  readonly leaving: Promise<unknown>[];
}

async function definitionsOf(
  tasks: NonNullable<KitOptions['tasks']>,
): Promise<ReadonlyMap<string, AnyTask | AnyFunction>> {
  const isModule = typeof tasks === 'string' || tasks instanceof URL;
  let all: readonly unknown[];
  if (isModule) {
    const source = await loadTasks([tasks instanceof URL ? fileURLToPath(tasks) : tasks]);
    all = source.kinds.map((kind) => source.get(kind));
  } else all = Symbol.iterator in tasks ? [...(tasks as Iterable<unknown>)] : Object.values(tasks).flat();
  const found = all.filter((each) => isTaskDefinition(each) || isWorkflowFunction(each));
  if (!isModule && Symbol.iterator in tasks && found.length < all.length)
    throw new KitError('UNKNOWN_TASK', 'tasks holds something that is neither a task nor a durable function');
  return new Map(found.map((each) => [each.id, each]));
}

function listOfKnown(definitions: ReadonlyMap<string, unknown>): string {
  return definitions.size === 0 ? '' : `; it has ${[...definitions.keys()].join(', ')}`;
}

const isFile = (what: unknown): what is string | URL =>
  what instanceof URL || (typeof what === 'string' && /\.(json|ya?ml)$/i.test(what));

async function definitionOf(file: string | URL): Promise<WorkflowDefinition> {
  const path = file instanceof URL ? fileURLToPath(file) : file;
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new KitError('BROKEN_FILE', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  });
  const checked = checkWorkflowFile(text, { fileName: path });
  if (checked.ok) return checked.value as WorkflowDefinition;
  const problems = checked.problems.map(({ path: at, code, message, hint }) =>
    [`${at}  ${code}`, `  ${message}`, hint === undefined ? '' : `  hint: ${hint}`].filter(Boolean).join('\n'),
  );
  throw new KitError('BROKEN_FILE', `${path}\n${problems.join('\n')}`);
}

/** A name that comes again, as a function's journal may have it, has a number. */
function nodesByName({ nodes }: RunView): Record<string, RunView['nodes'][number]> {
  const byName: Record<string, RunView['nodes'][number]> = {};
  const times = new Map<string, number>();
  for (const node of nodes) {
    const time = (times.get(node.nodeId) ?? 0) + 1;
    times.set(node.nodeId, time);
    byName[time === 1 ? node.nodeId : `${node.nodeId}#${time}`] = node;
  }
  return byName;
}

/** The ends that `end` tells as states. */
function endsOnly(error: unknown): void {
  const isEnd = [RunFailed, RunCancelled, TaskFailed, TaskCancelled].some((type) => error instanceof type);
  if (!isEnd) throw error;
}

/** Calls that only look, or wait. */
const READS = /\/(Get|List|Watch|Wait|Explain|Stream|Validate)\w*(\?|$)/;

/** Calls that change something are on their way: meanwhile no time is skipped. */
function countingFetch(calls: Activity): typeof globalThis.fetch {
  return (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    if (READS.test(url)) return fetch(input, init);
    return calls.during('a call of the test', () => fetch(input, init));
  };
}

async function describeWaiting(baton: Baton, waiting: readonly string[]): Promise<string> {
  const lines = await Promise.all(
    waiting.slice(0, 5).map(async (what) => {
      const [kind, id] = what.split(' ') as [string, string];
      try {
        if (kind === 'task') return `${what} waits: ${await explained(baton, id)}`;
        const run = await baton.runs.get(id);
        const open = run.nodes.filter(({ state, taskId }) => state === 'running' && taskId !== undefined);
        const why = await Promise.all(
          open.slice(0, 5).map(async ({ nodeId, taskId }) => `${nodeId}: ${await explained(baton, taskId!)}`),
        );
        const waits = run.waitingFor?.length ? [`for ${run.waitingFor.join(', ')}`] : [];
        return `${what} of ${run.workflowName} is ${run.state} and waits ${[...waits, ...why].join('; ')}`;
      } catch (error) {
        return `${what}: ${String(error)}`;
      }
    }),
  );
  return lines.join('\n');
}

async function explained(baton: Baton, taskId: string): Promise<string> {
  const { blockers } = await baton.tasks.explain(taskId);
  return blockers.map(({ message }) => message).join(', ') || 'for nothing that is known';
}
