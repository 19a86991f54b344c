import { type JournalEntry, JournalEntrySchema, JournalKind, PayloadEncoding } from '@baton/contract';
import type { JournalRow } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { blobMessage, failureMessage } from './task-messages.ts';

export const journalKinds = {
  step: JournalKind.STEP,
  sleep: JournalKind.SLEEP,
  signal: JournalKind.SIGNAL,
  task: JournalKind.TASK,
  child: JournalKind.CHILD,
} as const;

export function journalMessage(row: JournalRow & { unborn?: boolean }): JournalEntry {
  return create(JournalEntrySchema, {
    number: row.number,
    kind: journalKinds[row.kind],
    name: row.name,
    position: row.position,
    afterPosition: row.afterPosition,
    startTime: timestampFromMs(row.atMs),
    ...(row.endedAtMs !== null && { endTime: timestampFromMs(row.endedAtMs) }),
    ...(row.dueAtMs !== null && { dueTime: timestampFromMs(row.dueAtMs) }),
    refId: row.refId ?? '',
    unborn: row.unborn ?? false,
    attempts: row.attempts,
    encoding: row.encoding === 2 ? PayloadEncoding.BYTES : PayloadEncoding.JSON,
    ...(row.output !== null && { output: row.output }),
    ...(row.outputBlob && { outputBlob: blobMessage(row.outputBlob, row.encoding) }),
    ...(row.failure && { failure: failureMessage(row.failure) }),
  });
}
