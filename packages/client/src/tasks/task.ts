import type { TaskEnvironment } from '@baton/domain';
import type { TaskClassName } from '../words.ts';
import type { StandardSchema } from '../workflows/standard-schema.ts';
import type { TaskRequirements, TaskResources } from './resources.ts';
import type { TaskArtifacts, TaskBlobs, TaskCheckpoints } from './task-data.ts';

/** What a running task is handed besides its input. */
export interface TaskContext {
  /** Aborted when the task is cancelled, timed out, or its lease is lost: stop soon, the result is not wanted any more. */
  readonly signal: AbortSignal;
  readonly taskId: string;
  /** 1 for the first attempt. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** Rises with each lease of the task, also where `attempt` does not: a fencing token for writes elsewhere. */
  readonly epoch: number;
  /** UUIDs of the devices that it has for itself, and nobody else; it uses no others. */
  readonly devices: readonly string[];
  /** Set when the task is a node of a run. */
  readonly runId?: string;
  readonly nodeId?: string;
  /** Keeps a line in the task's log. Cheap; sent in batches. */
  log(text: string): void;
  /**
   * Says that the task goes on, how far it is (0 to 1), and in words what it does: shown with the task. Cheap: the newest goes with the
   * worker's next heartbeat. Each call, as each line, each output and each checkpoint, is a sign of life for `progressTimeoutMs`.
   */
  progress(fraction?: number, message?: string): void;
  readonly output: TaskOutput;
  readonly checkpoint: TaskCheckpoints;
  /** Uploads a result that is too large for a message (2 MiB): `return ctx.blob(bytes)`. */
  readonly blob: TaskBlobs;
  /**
   * Calls back when the worker is about to go and to hand the task back, so that it may save where it stands. The task is asked to stop when
   * what the listener returns has settled, after 10 s at the latest; another worker goes on from there.
   */
  onCheckpointNow(listener: () => unknown): void;
  readonly artifacts: TaskArtifacts;
  /** Variables of the task's `environment`: what it sets, and what it asks the worker for and the worker hands on. */
  readonly env: Readonly<Record<string, string>>;
  /** Of the task's `environment`; a function is not moved there. */
  readonly workingDirectory?: string;
}

/** What a task streams while it runs: bytes of any total size, to be read by `handle.output()` as they come. */
export interface TaskOutput {
  /**
   * Adds text or bytes. Resolves when there is room for more: await it, and memory stays bounded; until then the bytes must not be
   * changed. All that was written is kept before the task's success is. Each attempt begins anew, and what earlier ones sent is void.
   * Rejects when the attempt is over, or when more than 8 MiB were written without awaiting: then the attempt fails.
   */
  write(data: string | Uint8Array): Promise<void>;
}

/** The right to be tried again. What is left out has the server's default (4 attempts, after 5, 10 and 20 s). */
export interface RetryOptions {
  /** Attempts in all, the first included. */
  readonly maxAttempts?: number;
  readonly initialDelayMs?: number;
  /** Each further delay is the one before times this. */
  readonly factor?: number;
  readonly maxDelayMs?: number;
  /** Share of each delay that is random, 0 to 1. */
  readonly jitter?: number;
}

/** How a task is dispatched and retried, unless a submit says otherwise. */
export interface TaskPolicy {
  readonly queue?: string;
  readonly taskClass?: TaskClassName;
  /** A worker must have all of these. */
  readonly tags?: readonly string[];
  /** What it has for itself while it runs. Default: a slot, and of class gpu a device with 2 GiB. */
  readonly resources?: TaskResources;
  /** What its worker must be, beside class and tags. */
  readonly requires?: TaskRequirements;
  readonly retry?: RetryOptions;
  /** From the start of an attempt to its end. Server's default: 1 h. */
  readonly startToCloseTimeoutMs?: number;
  /**
   * Longest wait for a worker that starts it, anew for each attempt, from when it may be started. Then the task fails for good, with
   * TASK_TIMEOUT. Default: none.
   */
  readonly scheduleToStartTimeoutMs?: number;
  /**
   * Longest time without a sign of the running task itself: `ctx.progress()`, a line, output, a checkpoint. Then the attempt fails with
   * TASK_TIMEOUT. Default: none.
   */
  readonly progressTimeoutMs?: number;
  /** −1000 to 1000, higher first. Default 0. */
  readonly priority?: number;
  /** Variables and working directory where the task runs. Default: nothing beside what every task finds. */
  readonly environment?: TaskEnvironment;
}

/**
 * A task as a value: an id, a policy and the code. Export it from a module that a worker loads, and hand the same value
 * to `baton.enqueue`. `Sent` is what a caller passes, `Input` what `run` receives; they differ only where the input's
 * schema fills in or transforms.
 */
export interface TaskDefinition<Input = unknown, Output = unknown, Sent = Input, Id extends string = string>
  extends TaskPolicy {
  readonly __baton: 'task';
  /** The task's kind. Unique among the tasks of a namespace. */
  readonly id: Id;
  readonly input?: StandardSchema<Sent, Input>;
  readonly output?: StandardSchema<unknown, Output>;
  /**
   * Where the code runs. `none`, the default: in the worker's main thread, where a step costs least and a loop that never waits holds
   * the other tasks up. `thread` and `process`: in one of its own, kept warm for the next task of the module, and ended where the code does not
   * stop when it is told to. What it cannot use there: `ctx.journal`; streams given to `ctx.blob` are read whole.
   */
  readonly isolation?:
    | 'none'
    | 'thread'
    | 'process'
    | { readonly mode: 'thread' | 'process' /** Of a thread's heap. */; readonly memoryMib?: number };
  /** `import.meta.url` of the module that exports the task: needed where an isolated task is handed to `createWorker` as a value. */
  readonly module?: string;
  /** The input and the returned value travel as JSON. Must be safe to run again: an attempt may be lost half-way. */
  run(input: Input, ctx: TaskContext): Promise<Output> | Output;
}

/**
 * Defines a task.
 *
 * ```ts
 * export const greet = task({
 *   id: 'greet',
 *   retry: { maxAttempts: 2 },
 *   run: async (input: { name: string }, ctx) => {
 *     ctx.log(`greeting ${input.name}`);
 *     return `Hello, ${input.name}`;
 *   },
 * });
 * ```
 */
export function task<Input = void, Output = unknown, Sent = Input, const Id extends string = string>(
  definition: Omit<TaskDefinition<Input, Output, Sent, Id>, '__baton'>,
): TaskDefinition<Input, Output, Sent, Id> {
  return Object.freeze({ ...definition, __baton: 'task' as const });
}

/** Whether a value is a task made by `task` (by its shape: it may come from another copy of this package). */
export function isTaskDefinition(value: unknown): value is TaskDefinition {
  if (typeof value !== 'object' || value === null) return false;
  const candidate = value as Partial<TaskDefinition>;
  return candidate.__baton === 'task' && typeof candidate.id === 'string' && typeof candidate.run === 'function';
}
