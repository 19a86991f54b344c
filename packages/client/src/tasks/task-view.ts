import type { Attempt, Failure, RetryPolicy, Task, TaskLog } from '@baton/contract';
import type { TaskEnvironment } from '@baton/domain';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { optionalDate, optionalMs } from '../calls/time.ts';
import { type ArtifactInputView, type ArtifactView, artifactView } from '../data/artifacts.ts';
import {
  type AttemptStateName,
  attemptStateName,
  type FailureTypeName,
  failureTypeName,
  type TaskClassName,
  type TaskStateName,
  taskClassName,
  taskStateName,
} from '../words.ts';
import { decodePayload } from './payload.ts';
import { environmentView, type ProgramExecutor, programView } from './program.ts';
import { requirementsView, resourcesView, type TaskRequirements, type TaskResources } from './resources.ts';
import type { RetryOptions } from './task.ts';

/** What went wrong in an attempt. */
export interface FailureView {
  readonly type: FailureTypeName;
  readonly message: string;
  /** The exception's class, where there was one. */
  readonly exceptionType?: string;
  readonly stack?: string;
  readonly nonRetryable: boolean;
  readonly retryAfterMs?: number;
  /** The device that it happened on (a GPU's UUID), where it is one device's fault. */
  readonly device?: string;
}

export type ExecutorView =
  | { readonly type: 'function' }
  | {
      readonly type: 'grpc';
      readonly address: string;
      readonly method: string;
      readonly metadata: Readonly<Record<string, string>>;
    }
  | ProgramExecutor;

/** A task as it stood when it was read. */
export interface TaskView<Output = unknown> {
  readonly id: string;
  readonly namespace: string;
  readonly kind: string;
  readonly queue: string;
  readonly taskClass: TaskClassName;
  readonly tags: readonly string[];
  readonly state: TaskStateName;
  /** The current or last attempt's number; 0 before the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly priority: number;
  readonly createTime?: Date;
  /** When a scheduled task or a retry is due. */
  readonly dueTime?: Date;
  readonly startTime?: Date;
  readonly endTime?: Date;
  /** The worker of the current or last attempt. */
  readonly worker?: string;
  readonly executor: ExecutorView;
  /** Variables and working directory that it asked for. */
  readonly environment?: TaskEnvironment;
  /** With the defaults for what was left out. */
  readonly resources?: TaskResources;
  readonly requires?: TaskRequirements;
  /** JSON parsed, or bytes. Absent in lists. */
  readonly input?: unknown;
  readonly output?: Output;
  /** SHA-256 of the output's bytes, in hex. */
  readonly outputHash?: string;
  /** Of the last failed attempt. */
  readonly failure?: FailureView;
  readonly cancelReason?: string;
  readonly runId?: string;
  readonly nodeId?: string;
  readonly retry?: RetryOptions;
  readonly startToCloseTimeoutMs?: number;
  readonly scheduleToStartTimeoutMs?: number;
  readonly progressTimeoutMs?: number;
  /** What the running attempt said last, by `ctx.progress`, as its worker's last heartbeat told it. */
  readonly progress?: ProgressView;
  readonly idempotencyKey?: string;
  /** The ended task that this one sends again. */
  readonly retryOf?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Files that it is handed, by name. Absent in lists. */
  readonly artifacts?: Readonly<Record<string, ArtifactInputView>>;
  /** Files that it has produced, at most 100; `artifacts.list` has all. Absent in lists. */
  readonly outputArtifacts?: readonly ArtifactView[];
}

export interface ProgressView {
  /** 0 to 1; absent: it did not say. */
  readonly fraction?: number;
  readonly message?: string;
  /** Of its last sign: progress, a line, output, a checkpoint. */
  readonly time?: Date;
}

export interface AttemptView {
  readonly number: number;
  /** Rises with each lease of the task. */
  readonly epoch: number;
  readonly state: AttemptStateName;
  readonly worker?: string;
  readonly grantTime?: Date;
  readonly startTime?: Date;
  readonly endTime?: Date;
  readonly failure?: FailureView;
  /** The delay chosen before the next attempt. */
  readonly retryDelayMs?: number;
}

/** A line that a task wrote. */
export interface LogLineView {
  readonly taskId: string;
  readonly attempt: number;
  readonly time?: Date;
  /** stdout, stderr or log. */
  readonly stream: string;
  readonly text: string;
}

export function taskView<Output>(task: Task): TaskView<Output> {
  return {
    id: task.id,
    namespace: task.namespace,
    kind: task.kind,
    queue: task.queue,
    taskClass: taskClassName(task.taskClass),
    tags: task.tags,
    state: taskStateName(task.state),
    attempt: task.attempt,
    maxAttempts: task.maxAttempts,
    priority: task.priority,
    createTime: optionalDate(task.createTime),
    dueTime: optionalDate(task.dueTime),
    startTime: optionalDate(task.startTime),
    endTime: optionalDate(task.endTime),
    worker: task.worker || undefined,
    executor:
      task.executor.case === 'grpc'
        ? {
            type: 'grpc',
            address: task.executor.value.address,
            method: task.executor.value.method,
            metadata: task.executor.value.metadata,
          }
        : (programView(task.executor) ?? { type: 'function' }),
    environment: task.environment && environmentView(task.environment),
    resources: task.resources && resourcesView(task.resources),
    requires: task.requirements && requirementsView(task.requirements),
    input: decodePayload(task.inputPayload),
    output: decodePayload(task.outputPayload) as Output,
    outputHash: task.outputHash || undefined,
    failure: task.failure && failureView(task.failure),
    cancelReason: task.cancelReason || undefined,
    runId: task.runId || undefined,
    nodeId: task.nodeId || undefined,
    retry: task.retry && retryView(task.retry),
    startToCloseTimeoutMs: optionalMs(task.startToCloseTimeout),
    scheduleToStartTimeoutMs: optionalMs(task.scheduleToStartTimeout),
    progressTimeoutMs: optionalMs(task.progressTimeout),
    progress: task.progress && {
      fraction: task.progress.fraction < 0 ? undefined : task.progress.fraction,
      message: task.progress.message || undefined,
      time: optionalDate(task.progress.time),
    },
    idempotencyKey: task.idempotencyKey || undefined,
    retryOf: task.retryOf || undefined,
    labels: task.labels,
    ...artifactsOf(task),
  };
}

function artifactsOf({ artifacts, outputArtifacts }: Task): Pick<TaskView, 'artifacts' | 'outputArtifacts'> {
  const handed = Object.entries(artifacts).map(([name, { sha256, sizeBytes, taskId }]) => [
    name,
    { sha256, sizeBytes: Number(sizeBytes), ...(taskId !== '' && { taskId }) },
  ]);
  return {
    ...(handed.length > 0 && { artifacts: Object.fromEntries(handed) }),
    ...(outputArtifacts.length > 0 && { outputArtifacts: outputArtifacts.map(artifactView) }),
  };
}

export function failureView(failure: Failure): FailureView {
  return {
    type: failureTypeName(failure.type),
    message: failure.message,
    exceptionType: failure.exceptionType || undefined,
    stack: failure.stack || undefined,
    nonRetryable: failure.nonRetryable,
    retryAfterMs: optionalMs(failure.retryAfter),
    device: failure.device || undefined,
  };
}

function retryView(retry: RetryPolicy): RetryOptions {
  return {
    maxAttempts: retry.maxAttempts || undefined,
    initialDelayMs: optionalMs(retry.initialDelay),
    factor: retry.factor || undefined,
    maxDelayMs: optionalMs(retry.maxDelay),
    jitter: retry.jitter,
  };
}

export function attemptView(attempt: Attempt): AttemptView {
  return {
    number: attempt.number,
    epoch: attempt.epoch,
    state: attemptStateName(attempt.state),
    worker: attempt.worker || undefined,
    grantTime: optionalDate(attempt.grantTime),
    startTime: optionalDate(attempt.startTime),
    endTime: optionalDate(attempt.endTime),
    failure: attempt.failure && failureView(attempt.failure),
    retryDelayMs: attempt.retryDelay && durationMs(attempt.retryDelay),
  };
}

export function logLineView(line: TaskLog): LogLineView {
  return {
    taskId: line.taskId,
    attempt: line.attempt,
    time: optionalDate(line.time),
    stream: line.stream,
    text: line.text,
  };
}
