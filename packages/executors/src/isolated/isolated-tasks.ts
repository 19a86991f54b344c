import { FailureType, type Lease } from '@baton/contract';
import type { AttemptContext, FailureReport, Outcome } from '@baton/runtime';
import { LineSplitter } from '../program/line-splitter.ts';
import { LogBudget } from '../program/program-output.ts';
import type { RunnableTask } from '../task-definition.ts';
import { type Isolate, type IsolateEnd, type IsolatePlan, startIsolate } from './isolate.ts';
import { carry, type FromIsolate, type Job } from './messages.ts';

export interface IsolationLimits {
  /** An isolate without a task ends after this time. Default 60 000. */
  readonly idleMs?: number;
  /** An isolate ends after so many tasks. Default 1 000. */
  readonly tasks?: number;
  /** From the request to stop to the end of the isolate. Default 1 500: less than the worker waits for its attempts. */
  readonly graceMs?: number;
}

/** Carries out tasks in threads and processes of their own, which are kept for the next task of the same module. */
export interface IsolatedTasks {
  run(task: RunnableTask, module: string, lease: Lease, context: AttemptContext): Promise<Outcome>;
  /** Modules of which an isolate waits. */
  warm(): readonly string[];
  close(): Promise<void>;
}

/** Rss of a process that grew by so much over what its first task left is not kept. */
const GROWTH_BYTES = 256 * 1024 * 1024;
const LOG_BYTES = 16 * 1024 * 1024;
const MAX_STREAM_NAME = 20;

interface Kept {
  readonly isolate: Isolate;
  readonly key: string;
  readonly module: string;
  tasks: number;
  firstBytes: number;
  timer: NodeJS.Timeout | undefined;
  /** Whom its standard output and error belong to now. */
  lines: { stdout: LineSplitter; stderr: LineSplitter } | undefined;
}

/** @param surroundings what every process finds in its environment: PATH, HOME, … */
export function isolatedTasks(
  surroundings: Readonly<Record<string, string>>,
  { idleMs = 60_000, tasks: mostTasks = 1_000, graceMs = 1_500 }: IsolationLimits = {},
): IsolatedTasks {
  const idle = new Map<string, Kept[]>();
  const all = new Set<Kept>();

  const take = (task: RunnableTask, module: string, context: AttemptContext): Kept => {
    const { mode = 'thread', memoryMib } = isolationOf(task);
    const env = {
      ...surroundings,
      ...context.env,
      CUDA_VISIBLE_DEVICES: context.devices.join(','),
      CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
    };
    const plan: IsolatePlan = { mode, module, env, workingDirectory: context.workingDirectory, memoryMib };
    const key = JSON.stringify([plan.mode, module, memoryMib, context.workingDirectory, Object.entries(env).sort()]);
    const waiting = idle.get(key);
    while (waiting !== undefined && waiting.length > 0) {
      const kept = waiting.pop()!;
      clearTimeout(kept.timer);
      if (!kept.isolate.isGone) return kept;
      all.delete(kept);
    }
    const kept: Kept = {
      key,
      module,
      tasks: 0,
      firstBytes: 0,
      timer: undefined,
      lines: undefined,
      isolate: startIsolate(plan, (data, stream) => kept.lines?.[stream].write(data)),
    };
    all.add(kept);
    return kept;
  };

  const drop = async (kept: Kept): Promise<void> => {
    clearTimeout(kept.timer);
    all.delete(kept);
    await kept.isolate.kill();
  };

  const putBack = (kept: Kept, heapBytes: number): void => {
    kept.tasks++;
    if (kept.tasks === 1) kept.firstBytes = heapBytes;
    if (kept.tasks >= mostTasks || heapBytes > kept.firstBytes + GROWTH_BYTES) {
      void drop(kept);
      return;
    }
    kept.isolate.hear({ said: () => {}, ended: () => all.delete(kept) });
    const waiting = idle.get(kept.key) ?? [];
    idle.set(kept.key, waiting);
    waiting.push(kept);
    kept.timer = setTimeout(() => {
      waiting.splice(waiting.indexOf(kept), 1);
      if (waiting.length === 0) idle.delete(kept.key);
      void drop(kept);
    }, idleMs);
    kept.timer.unref();
  };

  return {
    run(task, module, lease, context) {
      const kept = take(task, module, context);
      const { isolate } = kept;
      const budget = new LogBudget(LOG_BYTES);
      const linesTo = (stream: string) =>
        new LineSplitter((line) => {
          if (budget.take(Buffer.byteLength(line) + 1)) context.log(line, stream);
        });
      kept.lines = { stdout: linesTo('stdout'), stderr: linesTo('stderr') };
      return new Promise<Outcome>((resolve) => {
        let killer: NodeJS.Timeout | undefined;
        let isStarted = kept.tasks > 0;
        const onAbort = () => {
          const reason: unknown = context.signal.reason;
          const kind =
            typeof reason === 'object' && reason !== null && 'kind' in reason ? String(reason.kind) : 'cancel';
          const message = reason instanceof Error ? reason.message : String(reason);
          isolate.send({ type: 'stop', kind, message });
          // Code that hears nothing, as a loop does, is ended.
          killer = setTimeout(() => void drop(kept).then(() => finish({ kind: 'cancelled' })), graceMs);
        };
        let isOver = false;
        const finish = (outcome: Outcome, heapBytes?: number) => {
          if (isOver) return;
          isOver = true;
          clearTimeout(killer);
          context.signal.removeEventListener('abort', onAbort);
          for (const splitter of Object.values(kept.lines ?? {})) splitter.end();
          kept.lines = undefined;
          isolate.hear(undefined);
          if (heapBytes !== undefined) putBack(kept, heapBytes);
          resolve(outcome);
        };
        let saved: (() => void) | undefined;
        let listens = false;
        const said = (message: FromIsolate): void => {
          switch (message.type) {
            case 'ready':
              isStarted = true;
              isolate.send({ type: 'start', job: jobOf(lease, context) });
              break;
            case 'log':
              context.log(message.text, message.stream?.slice(0, MAX_STREAM_NAME));
              break;
            case 'progress':
              context.progress(message.fraction, message.message);
              break;
            case 'call':
              void answer(message.call, message.path, message.args, isolate, context);
              break;
            case 'listens':
              if (listens) break;
              listens = true;
              context.onCheckpointNow(
                () =>
                  new Promise<void>((done) => {
                    saved = done;
                    isolate.send({ type: 'checkpoint-now' });
                  }),
              );
              break;
            case 'saved':
              saved?.();
              break;
            case 'done':
              // A thread's outputs are read a moment later than what it says.
              setImmediate(() => finish(message.outcome, message.heapBytes));
              break;
            case 'broken':
              void drop(kept);
              finish(failure({ type: FailureType.EVALUATION_ERROR, ...brokenOf(module, message) }));
          }
        };
        isolate.hear({
          said,
          ended: (end) => {
            all.delete(kept);
            saved?.();
            if (context.signal.aborted) finish({ kind: 'cancelled' });
            else finish(failure(failureOfEnd(task.id, end)));
          },
        });
        context.signal.addEventListener('abort', onAbort, { once: true });
        if (isStarted) isolate.send({ type: 'start', job: jobOf(lease, context) });
        if (context.signal.aborted) onAbort();
      });
    },
    warm: () => [...idle.values()].flat().map(({ module }) => module),
    async close() {
      await Promise.all([...all].map(drop));
      idle.clear();
    },
  };
}

/** How a task wants to be kept apart. */
export function isolationOf(task: RunnableTask): { mode?: 'thread' | 'process'; memoryMib?: number } {
  const { isolation } = task;
  if (isolation === undefined || isolation === 'none') return {};
  return typeof isolation === 'string' ? { mode: isolation } : isolation;
}

async function answer(
  call: number,
  path: string,
  args: readonly unknown[],
  isolate: Isolate,
  context: AttemptContext,
): Promise<void> {
  try {
    isolate.send({ type: 'answer', call, value: await doCall(path, args as never[], context) });
  } catch (error) {
    isolate.send({ type: 'answer', call, error: carry(error) });
  }
}

function doCall(path: string, args: never[], context: AttemptContext): unknown {
  const [first, second] = args as [never, never];
  switch (path) {
    case 'output.write':
      return context.output.write(first);
    case 'checkpoint.save':
      return context.checkpoint.save(first, second);
    case 'checkpoint.load':
      return context.checkpoint.load(first);
    case 'blob':
      return context.blob(first, second);
    case 'artifacts.put':
      return context.artifacts.put(...(args as unknown as Parameters<AttemptContext['artifacts']['put']>));
    case 'artifacts.get':
      return context.artifacts.get(...(args as unknown as Parameters<AttemptContext['artifacts']['get']>));
    case 'artifacts.directory':
      return context.artifacts.directory();
    default:
      throw new Error(`an isolated task asked for ${path}`);
  }
}

function jobOf(lease: Lease, context: AttemptContext): Job {
  return {
    taskId: lease.taskId,
    kind: lease.kind,
    epoch: lease.epoch,
    attempt: lease.attempt,
    maxAttempts: lease.maxAttempts,
    runId: lease.runId,
    nodeId: lease.nodeId,
    startToCloseMs: context.startToCloseMs,
    input: lease.input,
    encoding: lease.encoding,
    latestCheckpoint: context.checkpoint.latest,
    env: context.env,
    workingDirectory: context.workingDirectory,
    devices: context.devices,
    artifacts: context.artifacts.inputs,
  };
}

function brokenOf(
  module: string,
  { message, stack }: { message: string; stack?: string },
): Omit<FailureReport, 'type'> {
  return {
    message: `${module} cannot be imported by an isolated task: ${message}`,
    exceptionType: 'TaskModuleError',
    ...(stack !== undefined && { stack }),
    nonRetryable: true,
  };
}

/** The thread or process ended before the task did. That is the task's own doing: it has it for itself. */
function failureOfEnd(id: string, { code, signal, error }: IsolateEnd): FailureReport {
  const errorCode = error !== undefined && 'code' in error ? error.code : undefined;
  if (errorCode === 'ERR_WORKER_OUT_OF_MEMORY') {
    return { type: FailureType.OUT_OF_MEMORY, message: `task "${id}" needed more memory than its thread may have` };
  }
  if (error !== undefined) {
    return {
      type: FailureType.EVALUATION_ERROR,
      message: `task "${id}" threw where nobody caught it: ${error.message}`,
      exceptionType: error.name,
      ...(error.stack !== undefined && { stack: error.stack }),
    };
  }
  if (signal === 'SIGKILL') {
    // Nobody of this worker sent it: most likely the kernel, for memory.
    return {
      type: FailureType.OUT_OF_MEMORY,
      message: `the process of task "${id}" was killed, most likely for its memory`,
    };
  }
  if (signal === 'SIGABRT' || code === 134) {
    return {
      type: FailureType.OUT_OF_MEMORY,
      message: `the process of task "${id}" aborted, most likely for its heap`,
    };
  }
  const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
  return {
    type: FailureType.EVALUATION_ERROR,
    message: `the thread or process of task "${id}" ${how} before the task was over`,
    exceptionType: signal ?? `exit ${code}`,
  };
}

function failure(report: FailureReport): Outcome {
  return { kind: 'failure', failure: report };
}
