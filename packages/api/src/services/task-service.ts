import { PayloadFormat, type TaskService, type TaskSpec, TaskState } from '@baton/contract';
import { isId, Refusal } from '@baton/domain';
import type { ClientEngine } from '@baton/engine';
import { durationMs, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { taskArtifacts } from '../messages/artifact-messages.ts';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';
import { attemptMessage, taskMessage, toTaskRequest } from '../messages/task-messages.ts';
import { taskStates, wordOf } from '../messages/words.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';
import { explainHandlers } from './explain-handlers.ts';
import { failureHandlers } from './failure-handlers.ts';
import { taskStreams } from './stream-handlers.ts';
import { waitTasks } from './wait-tasks.ts';

const DEFAULT_PAGE = 50;

export function taskService(engine: ClientEngine, options: ApiOptions): Partial<ServiceImpl<typeof TaskService>> {
  const { tasks, submitter } = engine;
  const submit = async (namespace: string, spec: TaskSpec, field: string) =>
    submitter.submit(namespace || 'default', toTaskRequest(spec, field));
  return {
    ...failureHandlers(engine),
    ...explainHandlers(engine),

    async submitTask(request) {
      return submit(request.namespace, request.task!, 'task');
    },

    async submitTasks(request) {
      const results = await Promise.allSettled(
        request.tasks.map((spec, i) => submit(request.namespace, spec, `tasks[${i}]`)),
      );
      return {
        results: results.map((result) => {
          if (result.status === 'fulfilled') return { result: { case: 'submitted' as const, value: result.value } };
          // What is no refusal concerns the whole call: the client repeats it.
          if (!(result.reason instanceof Refusal)) throw result.reason;
          const { code, reason, message } = result.reason;
          return { result: { case: 'refused' as const, value: { code, reason, message } } };
        }),
      };
    },

    async getTask(request, context) {
      const namespace = request.namespace || 'default';
      const waitMs = request.wait ? durationMs(request.wait) : 0;
      const row = await tasks.get(namespace, request.taskId, waitMs, eitherAborts(context.signal, options.closing));
      throwIfCut(context.signal);
      const attempts = await tasks.attempts(request.taskId);
      const task = taskMessage(row, namespace, request.format);
      Object.assign(task, await taskArtifacts(engine, row));
      return { task, attempts: attempts.map(attemptMessage) };
    },

    waitTasks: (request, context) => waitTasks(engine, options, request, context.signal),

    async listTasks(request) {
      const namespace = request.namespace || 'default';
      const states = request.states.filter((s) => s !== TaskState.UNSPECIFIED).map((s) => wordOf(taskStates, s)!);
      const list = JSON.stringify(['tasks', namespace, [...states].sort(), request.queue, request.kind]);
      const page = await tasks.list(
        namespace,
        { states, queue: request.queue || null, kind: request.kind || null },
        decodePageToken(list, request.pageToken, isId),
        request.pageSize || DEFAULT_PAGE,
      );
      return {
        tasks: page.tasks.map((row) => taskMessage(row, namespace, PayloadFormat.NONE)),
        nextPageToken: page.next === null ? '' : encodePageToken(list, page.next),
      };
    },

    async *watchTask(request, context) {
      const namespace = request.namespace || 'default';
      for await (const row of tasks.watch(namespace, request.taskId, eitherAborts(context.signal, options.closing)))
        yield { task: taskMessage(row, namespace, request.format) };
      throwIfCut(context.signal);
    },

    async cancelTask(request) {
      const state = await tasks.cancel(
        request.namespace || 'default',
        request.taskId,
        request.reason || 'cancelled by a client',
      );
      return { state: taskStates[state] };
    },

    async *streamTaskLogs(request, context) {
      const cursor = decodeLogCursor(request.cursor);
      const signal = eitherAborts(context.signal, options.closing);
      for await (const page of tasks.logs(
        request.namespace || 'default',
        request.taskId,
        cursor,
        request.follow,
        signal,
      ))
        yield {
          logs: page.rows.map((row) => ({
            taskId: request.taskId,
            attempt: row.attempt,
            time: timestampFromDate(row.at),
            stream: row.stream,
            text: row.text,
          })),
          cursor: `${page.cursor.epoch}.${page.cursor.sequence}`,
        };
      throwIfCut(context.signal, options.closing);
    },

    ...taskStreams(engine, options),
  };
}

function decodeLogCursor(cursor: string): { epoch: number; sequence: string } {
  if (cursor === '') return { epoch: 0, sequence: '-1' };
  const match = /^(\d{1,9})\.(\d{1,18})$/.exec(cursor);
  if (!match)
    throw new Refusal('invalid_argument', 'INVALID_CURSOR', 'this is not a cursor of StreamTaskLogs', {
      violations: [{ field: 'cursor', description: 'not a cursor of StreamTaskLogs' }],
    });
  return { epoch: Number(match[1]), sequence: match[2]! };
}
