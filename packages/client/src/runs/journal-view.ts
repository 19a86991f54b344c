import { FailureType, JournalKind, type JournalEntry as Message, PayloadEncoding } from '@baton/contract';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { CommandKind, JournalEntry } from '../durable/journal.ts';

/** A durable function's run as it is replayed: what it was started with, and all that it has done and waits for. */
export interface RunJournal {
  readonly runId: string;
  readonly createTime: Date;
  /** Version of the code that it is pinned to. */
  readonly release?: string;
  /** As it was sent: JSON decoded, bytes as they are, `undefined` for none. */
  readonly input: unknown;
  /** In the order of the code. */
  readonly entries: readonly JournalEntryView[];
}

/** One step or wait, with what a replay needs and when it began. */
export interface JournalEntryView extends JournalEntry {
  readonly startTime?: Date;
}

const kinds: ReadonlyMap<JournalKind, CommandKind> = new Map([
  [JournalKind.STEP, 'step'],
  [JournalKind.SLEEP, 'sleep'],
  [JournalKind.SIGNAL, 'signal'],
  [JournalKind.TASK, 'task'],
  [JournalKind.CHILD, 'child'],
]);

export function journalEntryView(message: Message): JournalEntryView {
  const { output, outputBlob, failure } = message;
  const encoding = message.encoding === PayloadEncoding.BYTES ? 2 : 1;
  return {
    number: message.number,
    kind: kinds.get(message.kind) ?? 'step',
    name: message.name,
    position: message.position,
    endedAtMs: message.endTime === undefined ? 0 : timestampMs(message.endTime),
    dueAtMs: message.dueTime === undefined ? 0 : timestampMs(message.dueTime),
    refId: message.refId,
    attempts: message.attempts,
    ...(message.startTime && { startTime: new Date(timestampMs(message.startTime)) }),
    ...(output !== undefined && { output: { encoding, bytes: output } }),
    ...(outputBlob && {
      output: {
        encoding,
        bytes: new Uint8Array(),
        blob: { sha256: outputBlob.sha256, sizeBytes: Number(outputBlob.sizeBytes) },
      },
    }),
    ...(failure && {
      failure: {
        type: FailureType[failure.type] ?? 'UNKNOWN',
        message: failure.message,
        ...(failure.exceptionType && { exceptionType: failure.exceptionType }),
        ...(failure.nonRetryable && { nonRetryable: true }),
      },
    }),
  };
}
