import {
  DeadTaskSchema,
  type FailureRecord,
  FailureRecordSchema,
  FailureType,
  PayloadFormat,
  type TaskService,
} from '@baton/contract';
import { type FailureType as FailureWord, isId, Refusal } from '@baton/domain';
import { type ClientEngine, type FailureKey, type FailureRow, RESEND_ONCE } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationMs, timestampFromDate, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { durationFromMs } from '../messages/durations.ts';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';
import { failureMessage, taskMessage } from '../messages/task-messages.ts';
import { attemptStates, failureTypes, taskStates, wordOf } from '../messages/words.ts';

const DEFAULT_PAGE = 50;
const DEFAULT_WINDOW_MS = 3_600_000;

type Handled = 'listDeadTasks' | 'resendTasks' | 'listFailures' | 'getFailureStatistics';

/** TaskService's calls about what went wrong. */
export function failureHandlers(engine: ClientEngine): Pick<ServiceImpl<typeof TaskService>, Handled> {
  const { failures } = engine;
  return {
    async listFailures(request) {
      const namespace = request.namespace || 'default';
      const types = typeWords(request.types);
      if (request.worker && request.taskId)
        throw new Refusal('invalid_argument', 'INVALID_REQUEST', 'worker and task_id: filter by one of both', {
          violations: [{ field: 'worker', description: 'not together with task_id' }],
        });
      const sinceMs = request.since ? timestampMs(request.since) : null;
      const filters = [[...types].sort(), request.worker, request.taskId, sinceMs];
      const list = JSON.stringify(['failures', namespace, ...filters]);
      const page = await failures.list(
        namespace,
        { worker: request.worker || null, taskId: request.taskId || null, types, sinceMs },
        keyOf(decodePageToken(list, request.pageToken, isFailureKey)),
        request.pageSize || DEFAULT_PAGE,
      );
      return {
        failures: page.failures.map(recordMessage),
        nextPageToken: page.next ? encodePageToken(list, textOf(page.next)) : '',
      };
    },

    async getFailureStatistics(request) {
      const windowMs = request.window ? Math.max(1, durationMs(request.window)) : DEFAULT_WINDOW_MS;
      const found = await failures.statistics(request.namespace || 'default', windowMs);
      return {
        failures: BigInt(found.failures),
        byType: found.byType.map((t) => ({ type: failureTypes[t.type], count: BigInt(t.count) })),
        byWorker: found.byWorker.map((w) => ({
          worker: w.worker,
          count: BigInt(w.count),
          machineMade: BigInt(w.machineMade),
        })),
        tasksAffected: BigInt(found.tasksAffected),
        tasksRecovered: BigInt(found.tasksRecovered),
        tasksFailed: BigInt(found.tasksFailed),
        tasksOpen: BigInt(found.tasksOpen),
        workersAffected: BigInt(found.workersAffected),
        breakersOpen: found.breakersOpen,
      };
    },

    async listDeadTasks(request) {
      const namespace = request.namespace || 'default';
      const types = typeWords(request.types);
      const filters = [request.queue, request.kind, [...types].sort(), request.includeResent];
      const list = JSON.stringify(['dead', namespace, ...filters]);
      const page = await failures.dead(
        namespace,
        { queue: request.queue || null, kind: request.kind || null, types, includeResent: request.includeResent },
        decodePageToken(list, request.pageToken, isId),
        request.pageSize || DEFAULT_PAGE,
      );
      return {
        tasks: page.tasks.map(({ task, resentAs }) =>
          create(DeadTaskSchema, {
            task: taskMessage(task, namespace, PayloadFormat.NONE),
            resentAs: resentAs ?? '',
          }),
        ),
        nextPageToken: page.next === null ? '' : encodePageToken(list, page.next),
      };
    },

    async resendTasks(request) {
      const key = request.idempotencyKey || RESEND_ONCE;
      const results = await failures.resend(request.namespace || 'default', request.taskIds, key);
      return {
        results: results.map((result) => {
          if (!(result instanceof Refusal)) return { result: { case: 'submitted' as const, value: result } };
          const { code, reason, message } = result;
          return { result: { case: 'refused' as const, value: { code, reason, message } } };
        }),
      };
    },
  };
}

function typeWords(types: readonly FailureType[]): FailureWord[] {
  return types.filter((type) => type !== FailureType.UNSPECIFIED).map((type) => wordOf(failureTypes, type)!);
}

/** Time in µs, task, epoch. */
const KEY = /^(\d{1,16}) ([1-9]\d{0,18}) (\d{1,9})$/;

const isFailureKey = (text: string): boolean => KEY.test(text) && isId(KEY.exec(text)![2]!);

const textOf = ({ atUs, taskId, epoch }: FailureKey): string => `${atUs} ${taskId} ${epoch}`;

function keyOf(text: string | null): FailureKey | null {
  const match = text === null ? null : KEY.exec(text);
  return match && { atUs: match[1]!, taskId: match[2]!, epoch: Number(match[3]) };
}

function recordMessage(row: FailureRow): FailureRecord {
  return create(FailureRecordSchema, {
    time: timestampFromDate(row.at),
    failure: failureMessage(row.failure),
    taskId: row.taskId,
    kind: row.kind,
    queue: row.queue,
    attempt: row.attempt,
    epoch: row.epoch,
    worker: row.worker,
    attemptState: attemptStates[row.attemptState],
    recovered: row.taskState === 'succeeded',
    taskState: taskStates[row.taskState],
    ...(row.retryDelayMs !== null && { retryDelay: durationFromMs(row.retryDelayMs) }),
  });
}
