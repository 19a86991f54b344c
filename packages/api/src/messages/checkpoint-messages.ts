import { type Checkpoint, CheckpointSchema, PayloadEncoding } from '@baton/contract';
import { isId, notFound } from '@baton/domain';
import type { CheckpointRow } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';

export function checkpointMessage(row: CheckpointRow): Checkpoint {
  return create(CheckpointSchema, {
    taskId: row.taskId,
    number: BigInt(row.number),
    attempt: row.attempt,
    epoch: row.epoch,
    time: timestampFromDate(row.createdAt),
    sizeBytes: BigInt(row.sizeBytes),
    sha256: row.sha256,
    encoding: row.encoding === 1 ? PayloadEncoding.JSON : PayloadEncoding.BYTES,
    ...(row.score !== null && { score: row.score }),
    metadata: row.metadata ?? {},
    inBlob: row.inBlob,
    worker: row.worker,
  });
}

const HIGHEST = 9_223_372_036_854_775_807n;

/** A checkpoint's number as the store takes it. No checkpoint has a number that the column cannot hold, nor the highest one. */
export function storedNumber(number: bigint): string {
  return String(number > HIGHEST ? HIGHEST : number);
}

/** An id that fits the contract's pattern and no column names no task. */
export function checkTaskId(id: string): void {
  if (!isId(id)) throw notFound('task', id);
}
