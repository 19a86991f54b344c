// Runs in a thread or a process of its own: imports one module, and carries out one task of it at a time, as it is told.
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import type { Lease } from '@baton/contract';
import type { AttemptContext } from '@baton/runtime';
import { failureOfError } from '../failure-of-error.ts';
import { runTask } from '../run-task.ts';
import { isTask, type RunnableTask } from '../task-definition.ts';
import { carry, type FromIsolate, type Job, type ToIsolate, uncarry } from './messages.ts';

const port = parentPort;
const module = port === null ? process.argv[2]! : (workerData as { module: string }).module;

/** As the worker's own; that one would bring the whole worker here. */
class TaskStopped extends Error {
  override readonly name = 'TaskStopped';
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(message);
    this.kind = kind;
  }
}

function say(message: FromIsolate): void {
  if (port === null) process.send!(message);
  else port.postMessage(message);
}

let controller = new AbortController();
let calls = 0;
const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
let listeners: (() => unknown)[] = [];

function call(path: string, args: readonly unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const number = ++calls;
    waiting.set(number, { resolve, reject });
    say({ type: 'call', call: number, path, args });
  });
}

/** The context of the worker's side, at a distance. */
function contextOf(job: Job, signal: AbortSignal): AttemptContext {
  let latest = job.latestCheckpoint;
  const context = {
    signal,
    taskId: job.taskId,
    attempt: job.attempt,
    maxAttempts: job.maxAttempts,
    epoch: job.epoch,
    runId: job.runId === '' ? undefined : job.runId,
    nodeId: job.nodeId === '' ? undefined : job.nodeId,
    startToCloseMs: job.startToCloseMs,
    log: (text: string, stream?: string) =>
      say({ type: 'log', text: String(text), ...(stream !== undefined && { stream }) }),
    progress: (fraction?: number, message?: string) =>
      say({
        type: 'progress',
        ...(fraction !== undefined && { fraction: Number(fraction) }),
        ...(message !== undefined && { message: String(message) }),
      }),
    output: { write: (data: string | Uint8Array) => call('output.write', [data]) },
    checkpoint: {
      get latest() {
        return latest;
      },
      save: async (value: unknown, options?: unknown) => {
        latest = (await call('checkpoint.save', [value, options])) as number;
        return latest;
      },
      load: (number?: number) => call('checkpoint.load', [number]),
    },
    blob: async (data: unknown, options?: unknown) => call('blob', [await wholeOf(data), options]),
    artifacts: {
      inputs: job.artifacts,
      put: (...args: unknown[]) => call('artifacts.put', args),
      get: (...args: unknown[]) => call('artifacts.get', args),
      directory: () => call('artifacts.directory', []),
    },
    env: job.env,
    workingDirectory: job.workingDirectory,
    devices: job.devices,
    variable: () => undefined,
    onCheckpointNow: (listener: () => unknown) => {
      listeners.push(listener);
      say({ type: 'listens' });
    },
    get journal(): never {
      throw new Error('a durable function is not isolated; its steps may run tasks that are');
    },
  };
  return context as unknown as AttemptContext;
}

/** A stream does not cross: its bytes do. */
async function wholeOf(data: unknown): Promise<unknown> {
  if (data instanceof Uint8Array || typeof data === 'string') return data;
  if (data instanceof Blob) return new Uint8Array(await data.arrayBuffer());
  const parts: Uint8Array[] = [];
  for await (const part of data as AsyncIterable<Uint8Array>) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

let tasks: Map<string, RunnableTask> | undefined;

async function carryOut(job: Job): Promise<void> {
  controller = new AbortController();
  listeners = [];
  const task = tasks?.get(job.kind);
  const outcome =
    task === undefined
      ? ({
          kind: 'failure',
          failure: failureOfError(new Error(`${module} exports no task "${job.kind}" any more`)),
        } as const)
      : await runTask(task, job as unknown as Lease, contextOf(job, controller.signal));
  waiting.clear();
  say({ type: 'done', outcome, heapBytes: process.memoryUsage.rss() });
}

function heard(message: ToIsolate): void {
  switch (message.type) {
    case 'start':
      void carryOut(message.job);
      break;
    case 'stop':
      controller.abort(new TaskStopped(message.kind, message.message));
      break;
    case 'checkpoint-now':
      void Promise.allSettled(listeners.map(async (listener) => listener())).then(() => say({ type: 'saved' }));
      break;
    case 'answer': {
      const call = waiting.get(message.call);
      waiting.delete(message.call);
      if (message.error !== undefined) call?.reject(uncarry(message.error));
      else call?.resolve(message.value);
    }
  }
}

if (port === null) {
  process.on('message', (message) => heard(message as ToIsolate));
  // Nothing outlives the worker that made it: with it the channel goes.
  process.on('disconnect', () => process.exit(1));
} else {
  port.on('message', heard);
}

try {
  const exports = (await import(module.startsWith('file:') ? module : pathToFileURL(module).href)) as object;
  tasks = new Map(
    Object.values(exports)
      .flat()
      .filter(isTask)
      .map((task) => [task.id, task]),
  );
  say({ type: 'ready' });
} catch (error) {
  const { message, stack } = carry(error);
  say({ type: 'broken', message, ...(stack !== undefined && { stack }) });
}
