import {
  type Attempt,
  AttemptSchema,
  type BlobRef,
  BlobRefSchema,
  type Failure as FailureMessage,
  FailureSchema,
  PayloadEncoding,
  type PayloadFormat,
  type Task,
  TaskSchema,
  type TaskSpec,
} from '@baton/contract';
import type { Failure, RetryPolicy } from '@baton/domain';
import { type AttemptRow, loadedExecutor, type TaskRequest, type TaskRow } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationMs, timestampFromDate, timestampMs } from '@bufbuild/protobuf/wkt';
import { artifactsWanted } from './artifact-messages.ts';
import { durationFromMs } from './durations.ts';
import { environmentMessage, executorMessage, toEnvironment, toExecutor } from './executor-messages.ts';
import { decodePayload, inputPayload, outputPayload } from './payloads.ts';
import { needsMessages, toRequirements, toResourceRequest } from './resource-messages.ts';
import { attemptStates, failureTypes, taskClasses, taskStates, wordOf } from './words.ts';

/** @param field path of the spec in its request, for errors */
export function toTaskRequest(spec: TaskSpec, field: string): TaskRequest {
  const blob = spec.payload.case === 'inputBlob' ? spec.payload.value : undefined;
  const { bytes, encoding } =
    spec.payload.case === 'inputBlob'
      ? { bytes: null, encoding: encodingOf(spec.payload.value) }
      : decodePayload(spec.payload, field);
  const retry: Partial<RetryPolicy> = {};
  if (spec.retry) {
    if (spec.retry.maxAttempts) retry.maxAttempts = spec.retry.maxAttempts;
    if (spec.retry.initialDelay) retry.initialDelayMs = durationMs(spec.retry.initialDelay);
    if (spec.retry.factor) retry.factor = spec.retry.factor;
    if (spec.retry.maxDelay) retry.maxDelayMs = durationMs(spec.retry.maxDelay);
    if (spec.retry.jitter) retry.jitter = spec.retry.jitter;
  }
  const taskClass = wordOf(taskClasses, spec.taskClass);
  const requirements = spec.requirements && toRequirements(spec.requirements);
  return {
    kind: spec.kind,
    queue: spec.queue,
    tags: spec.tags,
    executor: toExecutor(spec.executor),
    ...(Object.keys(spec.artifacts).length > 0 && { artifacts: artifactsWanted(spec.artifacts) }),
    ...(spec.environment && { environment: toEnvironment(spec.environment) }),
    input: bytes,
    encoding,
    priority: spec.priority,
    labels: spec.labels,
    ...(taskClass && { taskClass }),
    ...(spec.resources && { resources: toResourceRequest(spec.resources) }),
    ...(requirements && { requirements }),
    ...(Object.keys(retry).length > 0 && { retry }),
    ...(spec.startToCloseTimeout && { startToCloseMs: Math.max(1, durationMs(spec.startToCloseTimeout)) }),
    ...(spec.scheduleToStartTimeout && { scheduleToStartMs: Math.max(1, durationMs(spec.scheduleToStartTimeout)) }),
    ...(spec.progressTimeout && { progressTimeoutMs: Math.max(1, durationMs(spec.progressTimeout)) }),
    ...(blob && { inputBlob: blob.sha256 }),
    ...(spec.runAt && { runAtMs: timestampMs(spec.runAt) }),
    ...(spec.idempotencyKey && { idempotencyKey: spec.idempotencyKey }),
  };
}

export function failureMessage(failure: Failure | null): FailureMessage | undefined {
  if (!failure) return undefined;
  return create(FailureSchema, {
    type: failureTypes[failure.type],
    message: failure.message,
    exceptionType: failure.exceptionType ?? '',
    stack: failure.stack ?? '',
    nonRetryable: failure.nonRetryable ?? false,
    device: failure.device ?? '',
    ...(failure.retryAfterMs !== undefined && { retryAfter: durationFromMs(failure.retryAfterMs) }),
  });
}

export function taskMessage(row: TaskRow, namespace: string, format: PayloadFormat): Task {
  const { executor, environment } = loadedExecutor(row.executor, row.executorConfig);
  const ended = row.state === 'succeeded' || row.state === 'failed' || row.state === 'cancelled';
  return create(TaskSchema, {
    id: row.id,
    namespace,
    kind: row.kind,
    queue: row.queue,
    taskClass: taskClasses[row.taskClass],
    tags: row.tags,
    state: taskStates[row.state],
    attempt: row.attempt,
    maxAttempts: row.maxAttempts,
    priority: row.priority,
    createTime: timestampFromDate(row.createdAt),
    ...(row.dueAt && { dueTime: timestampFromDate(row.dueAt) }),
    ...((row.startedAt ?? row.grantedAt) && { startTime: timestampFromDate((row.startedAt ?? row.grantedAt)!) }),
    ...(row.endedAt && { endTime: timestampFromDate(row.endedAt) }),
    worker: row.worker ?? '',
    executor: executorMessage(executor),
    ...(environment && { environment: environmentMessage(environment) }),
    inputPayload: row.inputBlob
      ? { case: 'inputBlob', value: blobMessage(row.inputBlob, row.inputEncoding) }
      : inputPayload(row.input, row.inputEncoding, format),
    outputPayload: row.outputBlob
      ? { case: 'outputBlob', value: blobMessage(row.outputBlob, row.outputEncoding) }
      : outputPayload(row.output, row.outputEncoding, format),
    outputHash: row.outputHash ?? '',
    // A failure of an earlier attempt is shown while the task lives, and not on a task that succeeded after it.
    ...(row.failure && !(ended && row.state !== 'failed') && { failure: failureMessage(row.failure) }),
    cancelReason: row.cancelReason ?? '',
    runId: row.runId ?? '',
    nodeId: row.nodeId ?? '',
    ...(row.retry && {
      retry: {
        maxAttempts: row.maxAttempts,
        factor: row.retry.factor ?? 0,
        jitter: row.retry.jitter ?? 0,
        ...(row.retry.initialDelayMs !== undefined && { initialDelay: durationFromMs(row.retry.initialDelayMs) }),
        ...(row.retry.maxDelayMs !== undefined && { maxDelay: durationFromMs(row.retry.maxDelayMs) }),
      },
    }),
    startToCloseTimeout: durationFromMs(row.startToCloseMs),
    idempotencyKey: row.idempotencyKey ?? '',
    labels: row.labels ?? {},
    ...(row.scheduleToStartMs !== null && { scheduleToStartTimeout: durationFromMs(row.scheduleToStartMs) }),
    ...(row.progressTimeoutMs !== null && { progressTimeout: durationFromMs(row.progressTimeoutMs) }),
    retryOf: row.retryOf ?? '',
    ...needsMessages(row.needs),
    ...(row.progress && {
      progress: {
        fraction: row.progress.fraction ?? -1,
        message: row.progress.message ?? '',
        time: timestampFromDate(row.progress.at),
      },
    }),
  });
}

/** How a blob's bytes are to be read: bytes, unless it says JSON. */
export function encodingOf(blob: BlobRef): 1 | 2 {
  return blob.encoding === PayloadEncoding.JSON ? 1 : 2;
}

export function blobMessage(blob: { sha256: string; sizeBytes: number }, encoding: number | null): BlobRef {
  return create(BlobRefSchema, {
    sha256: blob.sha256,
    sizeBytes: BigInt(blob.sizeBytes),
    encoding: encoding === 1 ? PayloadEncoding.JSON : PayloadEncoding.BYTES,
  });
}

export function attemptMessage(row: AttemptRow): Attempt {
  return create(AttemptSchema, {
    number: row.attempt,
    epoch: row.epoch,
    state: attemptStates[row.state],
    worker: row.worker,
    sessionId: row.sessionId,
    grantTime: timestampFromDate(row.grantedAt),
    ...(row.startedAt && { startTime: timestampFromDate(row.startedAt) }),
    ...(row.endedAt && { endTime: timestampFromDate(row.endedAt) }),
    ...(row.failure && { failure: failureMessage(row.failure) }),
    ...(row.retryDelayMs !== null && { retryDelay: durationFromMs(row.retryDelayMs) }),
  });
}
