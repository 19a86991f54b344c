import { HistoryEntrySchema, type MasterService, PayloadFormat, type TaskService } from '@baton/contract';
import { Refusal } from '@baton/domain';
import type { ClientEngine, Engine, HistoryEntry } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { durationFromMs } from '../messages/durations.ts';
import { failureMessage, taskMessage } from '../messages/task-messages.ts';
import { attemptStates, taskStates } from '../messages/words.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';

/** The part of TaskService that streams: output while a task runs, ends as they come, and the story of one task. */
export function taskStreams(
  engine: ClientEngine,
  options: ApiOptions,
): Pick<ServiceImpl<typeof TaskService>, 'streamTaskOutput' | 'streamTaskResults' | 'getTaskHistory'> {
  return {
    async *streamTaskOutput(request, context) {
      const namespace = request.namespace || 'default';
      const { attempt, epoch } = request;
      const offset = toOffset(request.offset, 'offset');
      const from = attempt > 0 || epoch > 0 || offset > 0 ? { attempt, epoch: toInteger(epoch), offset } : null;
      const abort = eitherAborts(context.signal, options.closing);
      for await (const page of engine.outputs.read(namespace, request.taskId, from, request.follow, abort))
        yield { ...page, offset: BigInt(page.offset) };
      throwIfCut(context.signal, options.closing);
    },

    async *streamTaskResults(request, context) {
      const namespace = request.namespace || 'default';
      const namespaceId = await engine.lanes.namespaceId(namespace);
      const abort = eitherAborts(context.signal, options.closing);
      const { taskIds, includeCompleted, cursor } = request;
      for await (const page of engine.watchEnds({ namespaceId, taskIds, includeCompleted, cursor }, abort))
        yield { tasks: page.rows.map((row) => taskMessage(row, namespace, request.format)), cursor: page.cursor };
      throwIfCut(context.signal, options.closing);
    },

    async getTaskHistory(request) {
      const namespace = request.namespace || 'default';
      const { task, entries } = await engine.history(namespace, request.taskId);
      return { task: taskMessage(task, namespace, PayloadFormat.NONE), entries: entries.map(entryMessage) };
    },
  };
}

/** The part of MasterService by which workers send what their tasks stream. */
export function masterStreams(engine: Engine): Pick<ServiceImpl<typeof MasterService>, 'appendOutput'> {
  return {
    async appendOutput(request) {
      if (!/^[1-9][0-9]{0,18}$/.test(request.sessionId))
        throw new Refusal('invalid_argument', 'INVALID_REQUEST', 'session_id: not an id', {
          violations: [{ field: 'session_id', description: 'must be a decimal id' }],
        });
      const refused = await engine.appendOutput(
        request.sessionId,
        request.chunks.map(({ taskId, epoch, offset, data }, i) => ({
          taskId,
          epoch,
          offset: toOffset(offset, `chunks[${i}].offset`),
          data,
        })),
      );
      return { refused: refused.map((each) => ({ ...each, expectedOffset: BigInt(each.expectedOffset) })) };
    },
  };
}

function entryMessage(entry: HistoryEntry) {
  return create(HistoryEntrySchema, {
    time: timestampFromDate(entry.at),
    what: entry.what,
    ...(entry.state && { state: taskStates[entry.state] }),
    attempt: entry.attempt,
    epoch: entry.epoch,
    worker: entry.worker,
    ...(entry.attemptState && { attemptState: attemptStates[entry.attemptState] }),
    ...(entry.failure && { failure: failureMessage(entry.failure) }),
    ...(entry.retryDelayMs !== null && { retryDelay: durationFromMs(entry.retryDelayMs) }),
    checkpoint: BigInt(entry.checkpoint ?? 0),
    message: entry.message,
  });
}

/** Bytes of one attempt are counted in a JavaScript number: 9 PB. */
function toOffset(offset: bigint, field: string): number {
  if (offset <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(offset);
  throw new Refusal('invalid_argument', 'INVALID_REQUEST', `${field}: too large`, {
    violations: [{ field, description: `must be at most ${Number.MAX_SAFE_INTEGER}` }],
  });
}

/** No epoch is larger than a column's integer; a larger one is none that there was. */
function toInteger(epoch: number): number {
  return Math.min(epoch, 2 ** 31 - 1);
}
