import {
  type ArtifactRef,
  ArtifactRefSchema,
  BlobRefSchema,
  FailureSchema,
  FailureType,
  type TaskResult,
  TaskResultSchema,
  TaskSuccessSchema,
  TaskSuspendedSchema,
} from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Attempt } from './attempt.ts';
import type { FailureReport, Outcome } from './executor.ts';
import { cleanText } from './text.ts';

const maxTextBytes = 65_536;
const maxTypeBytes = 1_024;
const maxDeviceBytes = 200;

/** Handed back: the task goes to another worker at no cost. */
export type Ending = Outcome | { readonly kind: 'returned' };

/** What is sent for an ending. A result that the master would refuse for its size becomes a failure that says so. */
export function taskResult(
  attempt: Attempt,
  ending: Ending,
  ranMs: number,
  maxResultBytes: number,
  files?: Files,
): TaskResult {
  return create(TaskResultSchema, {
    taskId: attempt.taskId,
    epoch: attempt.epoch,
    ranUs: BigInt(Math.max(0, Math.round(ranMs * 1000))),
    outcome: encodeEnding(ending, maxResultBytes, files),
  });
}

/** For a lease that no attempt was made of. */
export function handedBack(taskId: string, epoch: number): TaskResult {
  return create(TaskResultSchema, { taskId, epoch, outcome: { case: 'returned', value: {} } });
}

export function failureOutcome(failure: FailureReport): TaskResult['outcome'] {
  return {
    case: 'failure',
    value: create(FailureSchema, {
      type: failure.type,
      message: cleanText(failure.message, maxTextBytes),
      exceptionType: cleanText(failure.exceptionType ?? '', maxTypeBytes),
      stack: cleanText(failure.stack ?? '', maxTextBytes),
      nonRetryable: failure.nonRetryable ?? false,
      device: cleanText(failure.device ?? '', maxDeviceBytes),
      retryAfter: failure.retryAfterMs === undefined ? undefined : durationFromMs(Math.max(0, failure.retryAfterMs)),
    }),
  };
}

function refsOf(files: Files | undefined): { [name: string]: ArtifactRef } {
  const refs: { [name: string]: ArtifactRef } = {};
  for (const [name, { sha256, sizeBytes }] of files ?? []) {
    refs[name] = create(ArtifactRefSchema, { sha256, sizeBytes: BigInt(sizeBytes) });
  }
  return refs;
}

/** What an attempt has produced, by name. */
type Files = ReadonlyMap<string, { readonly sha256: string; readonly sizeBytes: number }>;

function encodeEnding(ending: Ending, maxResultBytes: number, files?: Files): TaskResult['outcome'] {
  switch (ending.kind) {
    case 'success': {
      const { output, encoding, blob } = ending;
      if (blob !== undefined) {
        const ref = create(BlobRefSchema, { sha256: blob.sha256, sizeBytes: BigInt(blob.sizeBytes), encoding });
        return { case: 'success', value: create(TaskSuccessSchema, { encoding, blob: ref, artifacts: refsOf(files) }) };
      }
      if (output.length > maxResultBytes) {
        return failureOutcome({
          type: FailureType.EVALUATION_ERROR,
          message: `RESULT_TOO_LARGE: the result has ${output.length} bytes, more than the ${maxResultBytes} that are allowed; return it as a blob: ctx.blob(bytes)`,
          exceptionType: 'ResultTooLarge',
          nonRetryable: true,
        });
      }
      return {
        case: 'success',
        value: { $typeName: 'baton.v1.TaskSuccess', output, encoding, artifacts: refsOf(files) },
      };
    }
    case 'failure':
      return failureOutcome(ending.failure);
    case 'cancelled':
      return { case: 'cancelled', value: { $typeName: 'baton.v1.TaskCancelled' } };
    case 'suspended': {
      const { wakes, dueAtMs } = ending;
      const dueTime = dueAtMs === null ? undefined : timestampFromMs(dueAtMs);
      return { case: 'suspended', value: create(TaskSuspendedSchema, { wakes, dueTime }) };
    }
    case 'returned':
      return { case: 'returned', value: { $typeName: 'baton.v1.TaskReturned' } };
  }
}
