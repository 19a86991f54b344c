import { type TaskEnd, TaskEndSchema, type WaitTasksRequest } from '@baton/contract';
import type { ClientEngine, TaskEnd as EndRow } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { outputPayload } from '../messages/payloads.ts';
import { blobMessage, failureMessage } from '../messages/task-messages.ts';
import { taskStates } from '../messages/words.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';

/** What came out of tasks, of many in one call: see `TaskEnds`. */
export async function waitTasks(
  { lanes, taskEnds }: Pick<ClientEngine, 'lanes' | 'taskEnds'>,
  options: ApiOptions,
  request: WaitTasksRequest,
  signal: AbortSignal,
): Promise<{ ends: TaskEnd[]; missing: string[] }> {
  const namespaceId = await lanes.knownNamespaceId(request.namespace || 'default');
  const waitMs = request.wait ? durationMs(request.wait) : 0;
  const { ends, missing } = await taskEnds.wait(
    namespaceId,
    request.taskIds,
    waitMs,
    eitherAborts(signal, options.closing),
  );
  throwIfCut(signal);
  return { ends: ends.map((end) => endMessage(end, request)), missing };
}

function endMessage(end: EndRow, { format }: WaitTasksRequest): TaskEnd {
  return create(TaskEndSchema, {
    taskId: end.taskId,
    state: taskStates[end.state],
    outputPayload: end.outputBlob
      ? { case: 'outputBlob', value: blobMessage(end.outputBlob, end.encoding) }
      : outputPayload(end.output, end.encoding, format),
    ...(end.state === 'failed' && { failure: failureMessage(end.failure) }),
    cancelReason: end.state === 'cancelled' ? (end.cancelReason ?? '') : '',
  });
}
