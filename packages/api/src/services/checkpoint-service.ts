import type { CheckpointService } from '@baton/contract';
import { Refusal } from '@baton/domain';
import type { ClientEngine } from '@baton/engine';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { checkpointMessage, checkTaskId, storedNumber } from '../messages/checkpoint-messages.ts';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';

const DEFAULT_PAGE = 50;

export function checkpointService(engine: ClientEngine): ServiceImpl<typeof CheckpointService> {
  const { checkpoints } = engine;
  return {
    async listCheckpoints(request) {
      checkTaskId(request.taskId);
      const namespace = request.namespace || 'default';
      const list = JSON.stringify(['checkpoints', namespace, request.taskId]);
      const before = decodePageToken(list, request.pageToken, (key) => /^[1-9][0-9]{0,17}$/.test(key));
      const page = await checkpoints.list(namespace, request.taskId, before, request.pageSize || DEFAULT_PAGE);
      return {
        checkpoints: page.checkpoints.map(checkpointMessage),
        nextPageToken: page.next === null ? '' : encodePageToken(list, page.next),
      };
    },

    async getCheckpoint(request) {
      checkTaskId(request.taskId);
      if (request.best && request.number !== 0n)
        throw new Refusal('invalid_argument', 'INVALID_REQUEST', 'best: not together with number', {
          violations: [{ field: 'best', description: 'not together with number' }],
        });
      const which = request.best ? 'best' : request.number === 0n ? 'newest' : { number: storedNumber(request.number) };
      const row = await checkpoints.get(request.namespace || 'default', request.taskId, which);
      return { checkpoint: checkpointMessage(row), ...(row.data && { data: row.data }) };
    },

    async compareCheckpoints(request) {
      checkTaskId(request.taskId);
      const { a, b, sameContent, differences } = await checkpoints.compare(
        request.namespace || 'default',
        request.taskId,
        storedNumber(request.a),
        storedNumber(request.b),
      );
      return { a: checkpointMessage(a), b: checkpointMessage(b), sameContent, differences };
    },

    async deleteCheckpoint(request) {
      checkTaskId(request.taskId);
      await checkpoints.remove(request.namespace || 'default', request.taskId, storedNumber(request.number));
      return {};
    },

    async pruneCheckpoints(request) {
      checkTaskId(request.taskId);
      const { deleted, freedBytes } = await checkpoints.prune(
        request.namespace || 'default',
        request.taskId,
        request.keepLast,
        !request.dropBest,
      );
      return { deleted, freedBytes: BigInt(freedBytes) };
    },

    async getCheckpointStatistics(request) {
      if (request.taskId !== '') checkTaskId(request.taskId);
      const facts = await checkpoints.statistics(request.namespace || 'default', request.taskId || null);
      return {
        count: BigInt(facts.count),
        tasks: BigInt(facts.tasks),
        sizeBytes: BigInt(facts.sizeBytes),
        inBlobs: BigInt(facts.inBlobs),
        ...(facts.oldest && { oldest: timestampFromDate(facts.oldest) }),
        ...(facts.newest && { newest: timestampFromDate(facts.newest) }),
        ...(facts.bestScore !== null && { bestScore: facts.bestScore }),
      };
    },
  };
}
