import { type MasterService, PayloadEncoding } from '@baton/contract';
import { isId, Refusal } from '@baton/domain';
import type { Engine } from '@baton/engine';
import type { ServiceImpl } from '@connectrpc/connect';
import { checkpointMessage, storedNumber } from '../messages/checkpoint-messages.ts';

/** Larger ones fit no column: no lease has them. */
const HIGHEST_EPOCH = 0x7fffffff;

/** What workers save and load of the tasks that they hold. */
export function checkpointHandlers(
  engine: Engine,
): Pick<ServiceImpl<typeof MasterService>, 'saveCheckpoint' | 'loadCheckpoint'> {
  const { checkpoints } = engine;
  return {
    async saveCheckpoint(request) {
      const { content } = request;
      const blob = content.case === 'blob' ? content.value : undefined;
      const encoding = request.encoding || blob?.encoding;
      const metadata = Object.keys(request.metadata).length > 0 ? request.metadata : null;
      const number = await checkpoints.save({
        ...leaseWord(request),
        saveId: request.saveId,
        sha256: request.sha256,
        content: blob ? { blob: blob.sha256 } : { data: content.value as Uint8Array },
        encoding: encoding === PayloadEncoding.JSON ? 1 : 2,
        score: request.score ?? null,
        metadata,
      });
      return { number: BigInt(number) };
    },

    async loadCheckpoint(request) {
      const row = await checkpoints.load(leaseWord(request), storedNumber(request.number));
      if (row === null) return {};
      return { checkpoint: checkpointMessage(row), ...(row.data && { data: row.data }) };
    },
  };
}

function leaseWord({ sessionId, taskId, epoch }: { sessionId: string; taskId: string; epoch: number }) {
  const violations = [
    ...(isId(sessionId) ? [] : [{ field: 'session_id', description: 'must be a decimal id' }]),
    ...(isId(taskId) ? [] : [{ field: 'task_id', description: 'must be a decimal id' }]),
    ...(epoch <= HIGHEST_EPOCH ? [] : [{ field: 'epoch', description: 'no lease has such an epoch' }]),
  ];
  if (violations.length > 0)
    throw new Refusal(
      'invalid_argument',
      'INVALID_REQUEST',
      violations.map((v) => `${v.field}: ${v.description}`).join('; '),
      { violations },
    );
  return { sessionId, taskId, epoch };
}
