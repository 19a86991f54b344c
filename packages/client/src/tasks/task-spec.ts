import { type TaskSpec, TaskSpecSchema } from '@baton/contract';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { CallOptions } from '../calls/call.ts';
import { BatonError } from '../calls/error.ts';
import { optionalDuration } from '../calls/time.ts';
import { type ArtifactSource, artifactRefs } from '../data/artifacts.ts';
import { blobRefOf, isBlobValue } from '../data/blob-value.ts';
import { taskClassNames, taskClassOf } from '../words.ts';
import { encodeInput, sizeOfPayload } from './payload.ts';
import { environmentMessage, environmentView, type ProgramExecutor, programMessage, programView } from './program.ts';
import { requirementsMessage, resourcesMessage } from './resources.ts';
import type { RetryOptions, TaskPolicy } from './task.ts';

/** What a submit may say besides kind and input. */
export interface SubmitOptions extends TaskPolicy, CallOptions {
  /** Not before this point in time. */
  readonly runAt?: Date;
  /** Not before so many milliseconds from now (by this machine's clock); instead of `runAt`. */
  readonly delayMs?: number;
  /** The same key for the same kind gives the same task, within a day. Lets a submit be repeated without harm. */
  readonly idempotencyKey?: string;
  /** One's own words, shown and returned. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Files that it is handed, by the names that it asks for them by: `ctx.artifacts.get(name)`. */
  readonly artifacts?: Readonly<Record<string, ArtifactSource>>;
}

/** A task to be submitted. */
export interface TaskSubmission extends SubmitOptions {
  readonly kind: string;
  /** Sent as JSON; a `Uint8Array` is sent as it is. At most 2 MiB; larger ones are uploaded before: `blobs.put`, `blobInput`. */
  readonly input?: unknown;
  /** Default: the function that a worker registered under `kind`. */
  readonly executor?:
    | { readonly type: 'function' }
    | {
        readonly type: 'grpc';
        /** host:port, plaintext HTTP/2. */
        readonly address: string;
        /** `package.Service/Method`. */
        readonly method: string;
        /** Sent as request headers. */
        readonly metadata?: Readonly<Record<string, string>>;
      }
    | ProgramExecutor;
}

/** The submission as the contract has it. Throws `BatonError` (invalid_argument) for what cannot be said in it. */
export function taskSpecOf(submission: TaskSubmission): TaskSpec {
  const { taskClass, executor, retry } = submission;
  if (taskClass !== undefined && !taskClassNames.includes(taskClass)) {
    throw new BatonError({
      code: 'invalid_argument',
      reason: 'UNKNOWN_TASK_CLASS',
      message: `there is no task class "${taskClass}"; known are ${taskClassNames.join(', ')}`,
    });
  }
  return create(TaskSpecSchema, {
    kind: submission.kind,
    queue: submission.queue,
    taskClass: taskClass && taskClassOf(taskClass),
    tags: submission.tags && [...submission.tags],
    executor: executor && executorOf(executor),
    environment: submission.environment && environmentMessage(submission.environment),
    resources: submission.resources && resourcesMessage(submission.resources),
    requirements: submission.requires && requirementsMessage(submission.requires),
    payload: isBlobValue(submission.input)
      ? { case: 'inputBlob', value: blobRefOf(submission.input) }
      : encodeInput(submission.input),
    priority: submission.priority,
    retry: retry && retryPolicyOf(retry),
    startToCloseTimeout: optionalDuration(submission.startToCloseTimeoutMs),
    scheduleToStartTimeout: optionalDuration(submission.scheduleToStartTimeoutMs),
    progressTimeout: optionalDuration(submission.progressTimeoutMs),
    runAt: runAtOf(submission),
    idempotencyKey: submission.idempotencyKey,
    labels: submission.labels && { ...submission.labels },
    artifacts: submission.artifacts && artifactRefs(submission.artifacts),
  });
}

function executorOf(
  executor: NonNullable<TaskSubmission['executor']>,
): MessageInitShape<typeof TaskSpecSchema>['executor'] {
  switch (executor.type) {
    case 'function':
      return { case: 'function', value: {} };
    case 'grpc': {
      const { address, method, metadata } = executor;
      return { case: 'grpc', value: { address, method, metadata: { ...metadata } } };
    }
    default:
      return programMessage(executor);
  }
}

function retryPolicyOf(retry: RetryOptions): MessageInitShape<typeof TaskSpecSchema>['retry'] {
  return {
    maxAttempts: retry.maxAttempts,
    initialDelay: optionalDuration(retry.initialDelayMs),
    factor: retry.factor,
    maxDelay: optionalDuration(retry.maxDelayMs),
    jitter: retry.jitter,
  };
}

function runAtOf(submission: TaskSubmission): ReturnType<typeof timestampFromMs> | undefined {
  if (submission.runAt !== undefined) return timestampFromMs(submission.runAt.getTime());
  if (submission.delayMs !== undefined) return timestampFromMs(Date.now() + Math.round(submission.delayMs));
  return undefined;
}

/** An upper bound of what a task takes on the wire, near enough and without encoding it twice. */
export function sizeOfTask(task: TaskSpec): number {
  // All that is not input is names and numbers; a UTF-16 unit is at most 3 bytes of UTF-8.
  let bytes = 200 + 3 * (task.kind.length + task.queue.length + task.idempotencyKey.length);
  for (const name of Object.keys(task.artifacts)) bytes += 3 * name.length + 110;
  for (const tag of task.tags) bytes += 3 * tag.length + 4;
  const { os = [], tools = [], selector = '' } = task.requirements ?? {};
  for (const text of [...os, ...tools, selector]) bytes += 3 * text.length + 4;
  for (const [key, value] of Object.entries(task.labels)) bytes += 3 * (key.length + value.length) + 8;
  if (task.executor.case === 'grpc') {
    bytes += 3 * (task.executor.value.address.length + task.executor.value.method.length);
    for (const [key, value] of Object.entries(task.executor.value.metadata))
      bytes += 3 * (key.length + value.length) + 8;
  }
  // Rare, and mostly small; their texts have no bound of their own.
  else if (task.executor.case !== undefined && task.executor.case !== 'function')
    bytes += 3 * JSON.stringify(programView(task.executor)).length;
  if (task.environment !== undefined) bytes += 3 * JSON.stringify(environmentView(task.environment)).length;
  return bytes + sizeOfPayload(task.payload);
}
