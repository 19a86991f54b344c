import type { ArtifactSource } from '../data/artifacts.ts';
import type { Duration } from '../durable/duration.ts';
import type { StepContext, StepOptions } from '../durable/function-run.ts';
import type { TaskDefinition, TaskPolicy } from '../tasks/task.ts';
import type { TaskSubmission } from '../tasks/task-spec.ts';
import type { TaskClassName } from '../words.ts';
import type { StandardSchema } from './standard-schema.ts';

/** How a task that a function submits differs from its own policy. */
export interface RunTaskOptions extends TaskPolicy {
  /** Its name in the journal. Default: the task's id. */
  readonly name?: string;
  /** Files that it is handed, by name: what `ctx.artifacts.put` of another task gave, and that one returned. */
  readonly artifacts?: Readonly<Record<string, ArtifactSource>>;
  /** What carries it out, where that is no function of a worker: a program, a container, a gRPC or HTTP service. */
  readonly executor?: TaskSubmission['executor'];
}

export interface ChildOptions {
  /** Its name in the journal. Default: the workflow's id. */
  readonly name?: string;
  /** As an idempotency key: where the key stands for a run that this one did not start, the child is refused. */
  readonly key?: string;
}

/**
 * What a durable function does its work by. All that the function learns from outside comes from here; between two calls its code must
 * do the same in each replay: no clock, no random numbers, no files, no network but in steps.
 */
export interface WorkflowContext {
  readonly runId: string;
  /** Aborted when the run is cancelled or another worker has it. For steps; they are handed it, too. */
  readonly signal: AbortSignal;
  /**
   * Carries `run` out and keeps what it returns (JSON or bytes, at most 2 MiB): it never runs again for this run. Where a worker dies
   * in the middle it is run once more, with the same `stepKey`. What throws is tried again, 3 times in all; then `StepFailed` is thrown.
   */
  step<Output>(
    name: string,
    run: (step: StepContext) => Promise<Output> | Output,
    options?: StepOptions,
  ): Promise<Output>;
  /** Submits a task, on any worker that has it, and waits for what it gives. Throws `StepFailed`. */
  run<Input, Output, Sent>(
    task: TaskDefinition<Input, Output, Sent>,
    input: NoInfer<Sent>,
    options?: RunTaskOptions,
  ): Promise<Output>;
  /** A task by its kind alone. */
  run<Output = unknown>(kind: string, input?: unknown, options?: RunTaskOptions): Promise<Output>;
  /** As `Promise.all`. */
  all<const T extends readonly unknown[]>(values: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }>;
  /** A durable pause, without a worker: over restarts, for years. Milliseconds, or '30s', '5m', '24h', '7d'. */
  sleep(duration: Duration): Promise<void>;
  sleepUntil(time: Date | number): Promise<void>;
  /**
   * The next signal of this name that the run was sent, before or after; signals are taken in the order in which they came, each once.
   * `undefined` when the time is over before.
   */
  waitFor<Payload = unknown>(signal: string, options?: { readonly timeout?: Duration }): Promise<Payload | undefined>;
  /** Starts a run of another workflow, of any form, and waits for its output. Throws `StepFailed`. */
  child<Input, Output, Sent>(
    workflow: WorkflowFunction<Input, Output, Sent>,
    input: NoInfer<Sent>,
    options?: ChildOptions,
  ): Promise<Output>;
  child<Output = unknown>(workflow: string, input?: unknown, options?: ChildOptions): Promise<Output>;
  /** The time, ms since the epoch: that of the newest outcome that the function has seen. The same in each replay. */
  now(): number;
  /** In [0, 1). The same in each replay. */
  random(): number;
  uuid(): string;
  /** A line in the log of the run's task; not again when the function is replayed. */
  log(text: string): void;
}

/** A durable function as a value. `Sent` is what a caller passes, `Input` what `run` receives. */
export interface WorkflowFunction<Input = unknown, Output = unknown, Sent = Input> {
  readonly __baton: 'workflow';
  /** Its name as a workflow, and the kind of its task. */
  readonly id: string;
  /**
   * Of the code. A run stays on the version that it began with: workers that have another leave it alone. Without one a run goes on with
   * whatever code is there, and is refused where that does not fit its journal.
   */
  readonly version?: string;
  readonly description?: string;
  readonly input?: StandardSchema<Sent, Input>;
  readonly output?: StandardSchema<unknown, Output>;
  readonly queue?: string;
  readonly taskClass?: TaskClassName;
  /** A worker must have all of these. */
  readonly tags?: readonly string[];
  /** −1000 to 1000, higher first. Default 0. */
  readonly priority?: number;
  /** Of one go at it, between two waits. Server's default: 1 h. */
  readonly startToCloseTimeoutMs?: number;
  run(ctx: WorkflowContext, input: Input): Promise<Output> | Output;
}

/**
 * Defines a durable function: ordinary code whose steps are kept, so that it survives whatever its worker does not.
 *
 * ```ts
 * export const order = workflow({
 *   id: 'order',
 *   run: async (ctx, input: { amount: number }) => {
 *     const charge = await ctx.step('charge', ({ stepKey }) => pay(input.amount, stepKey));
 *     const approved = await ctx.waitFor('approved', { timeout: '7d' });
 *     return { charge, approved: approved !== undefined };
 *   },
 * });
 * ```
 */
export function workflow<Input = void, Output = unknown, Sent = Input>(
  definition: Omit<WorkflowFunction<Input, Output, Sent>, '__baton'>,
): WorkflowFunction<Input, Output, Sent> {
  return Object.freeze({ ...definition, __baton: 'workflow' as const });
}

/** Whether a value was made by `workflow` (by its shape: it may come from another copy of this package). */
export function isWorkflowFunction(value: unknown): value is WorkflowFunction {
  if (typeof value !== 'object' || value === null) return false;
  const candidate = value as Partial<WorkflowFunction>;
  return candidate.__baton === 'workflow' && typeof candidate.id === 'string' && typeof candidate.run === 'function';
}

/** The tag of workers that have this version of a function. */
export function releaseTag(id: string, version: string): string {
  return `workflow:${id}@${version}`.toLowerCase();
}
