import { isId, isTerminal, notFound, Refusal, storableText, TASK_STATES, type TaskState } from '@baton/domain';
import {
  type AttemptRow,
  cancelTasks,
  endsOf,
  findNamespace,
  type LogRow,
  listTasks,
  readAttempts,
  readLogs,
  readTask,
  type TaskRow,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import type { EventHub } from '../events/event-hub.ts';
import type { Signals } from '../runs/signals.ts';

export interface TaskFilter {
  states: readonly TaskState[];
  queue: string | null;
  kind: string | null;
}

/** Reading, watching and cancelling tasks. */
export interface Tasks {
  /** The task; waits up to `waitMs` for its end. @throws Refusal TASK_NOT_FOUND */
  get(namespace: string, id: string, waitMs: number, abort?: AbortSignal): Promise<TaskRow>;
  attempts(id: string): Promise<AttemptRow[]>;
  /** Newest first; `next` is the id to go on below, or null at the end. */
  list(
    namespace: string,
    filter: TaskFilter,
    before: string | null,
    limit: number,
  ): Promise<{ tasks: TaskRow[]; next: string | null }>;
  /** The task now, then at each change, until its end. */
  watch(namespace: string, id: string, abort: AbortSignal): AsyncGenerator<TaskRow>;
  /** @throws Refusal TASK_NOT_FOUND, TASK_ENDED */
  cancel(namespace: string, id: string, reason: string): Promise<TaskState>;
  cancelById(namespaceId: number, id: string, reason: string): Promise<TaskState>;
  /** Cancels many at once; those that have ended meanwhile, or are not there, are left alone. */
  cancelAll(namespaceId: number, ids: readonly string[], reason: string): Promise<void>;
  logs(namespace: string, id: string, cursor: LogCursor, follow: boolean, abort: AbortSignal): AsyncGenerator<LogPage>;
}

export interface LogCursor {
  epoch: number;
  sequence: string;
}

export interface LogPage {
  rows: LogRow[];
  cursor: LogCursor;
}

const LOOK_AGAIN_MS = 1_000;
const LOG_PAGE = 1_000;
const CANCEL_ROWS = 500;

export interface TaskSinks {
  onEnded(taskId: string, runId: string | null): void;
  orderCancel(sessionId: string, order: { taskId: string; epoch: number; reason: string }): void;
}

/** @param ends raised with a task's id when its end was written here */
export function createTasks(
  env: EngineEnvironment,
  hub: EventHub | null,
  ends: Signals<string>,
  sinks: TaskSinks,
): Tasks {
  const { api, hot } = env.pools;

  /** Those that exist; they stay. A read that waits for a task's end would else ask for its namespace twice. */
  const namespaces = new Map<string, number>();

  async function namespaceId(namespace: string): Promise<number | null> {
    const known = namespaces.get(namespace);
    if (known !== undefined) return known;
    const found = await findNamespace(api, namespace);
    if (found !== null) namespaces.set(namespace, found);
    return found;
  }

  async function read(namespace: string, id: string): Promise<TaskRow> {
    const ns = isId(id) ? await namespaceId(namespace) : null;
    const task = ns === null ? null : await readTask(api, ns, id);
    if (!task) throw notFound('task', id);
    return task;
  }

  async function cancelById(namespaceId: number, id: string, reason: string): Promise<TaskState> {
    // A grant may land between the statement's snapshot and its deletes; then nothing was cancelled and nothing was asked: again.
    for (let tries = 0; tries < 20; tries++) {
      const done = (await cancelTasks(hot, [id], storableText(reason))).get(id);
      if (done?.now === 'cancelled') {
        sinks.onEnded(id, done.runId);
        return 'cancelled';
      }
      if (done?.now === 'leased') {
        sinks.orderCancel(done.sessionId!, { taskId: id, epoch: done.epoch!, reason });
        return 'leased';
      }
      const task = await readTask(api, namespaceId, id);
      if (!task) throw notFound('task', id);
      if (isTerminal(task.state))
        throw new Refusal(
          'failed_precondition',
          'TASK_ENDED',
          `task ${id} has already ${task.state === 'cancelled' ? 'been cancelled' : task.state}`,
        );
    }
    throw new Refusal('unavailable', 'BUSY', `task ${id} keeps moving; try again`, { retryAfterMs: 100 });
  }

  async function cancelAll(namespaceId: number, ids: readonly string[], reason: string): Promise<void> {
    for (let i = 0; i < ids.length; i += CANCEL_ROWS) {
      const part = ids.slice(i, i + CANCEL_ROWS);
      const done = await cancelTasks(hot, part, storableText(reason));
      for (const { taskId, runId, now, sessionId, epoch } of done.values())
        if (now === 'cancelled') sinks.onEnded(taskId, runId);
        else sinks.orderCancel(sessionId!, { taskId, epoch: epoch!, reason });
      // Those that were on their way from one place to another, and those that have ended.
      for (const id of part)
        if (!done.has(id))
          await cancelById(namespaceId, id, reason).catch((error) => {
            if (!(error instanceof Refusal)) throw error;
          });
    }
  }

  async function* watch(namespace: string, id: string, abort: AbortSignal): AsyncGenerator<TaskRow> {
    // Listen first: what happens between the read and the wait must not be missed.
    let changed = false;
    let wake: (() => void) | null = null;
    const stop = hub?.listen(({ batches }) => {
      if (batches.some(({ events }) => events.some((event) => event.taskId === id))) {
        changed = true;
        wake?.();
      }
    });
    try {
      let last = '';
      for (;;) {
        changed = false;
        const task = await read(namespace, id);
        const now = [task.state, task.attempt, task.cancelReason, task.startedAt?.getTime()].join();
        if (now !== last) yield task;
        last = now;
        if (isTerminal(task.state) || abort.aborted) return;
        if (changed) continue;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(done, LOOK_AGAIN_MS);
          function done() {
            clearTimeout(timer);
            abort.removeEventListener('abort', done);
            wake = null;
            resolve();
          }
          abort.addEventListener('abort', done, { once: true });
          wake = done;
          void ends.wait(id, LOOK_AGAIN_MS, abort).then(done);
        });
        if (abort.aborted) return;
      }
    } finally {
      stop?.();
    }
  }

  return {
    async get(namespace, id, waitMs, abort) {
      const until = env.now() + waitMs;
      for (;;) {
        const waited = waitMs > 0 ? ends.wait(id, Math.min(LOOK_AGAIN_MS, waitMs), abort) : null;
        const task = await read(namespace, id);
        const left = until - env.now();
        if (isTerminal(task.state) || !waited || left <= 0 || abort?.aborted) return task;
        await waited;
      }
    },
    attempts: (id) => readAttempts(api, id),
    async list(namespace, filter, before, limit) {
      const ns = await namespaceId(namespace);
      if (ns === null) return { tasks: [], next: null };
      const rows = await listTasks(api, {
        namespaceId: ns,
        states: filter.states.length > 0 ? filter.states : TASK_STATES,
        queue: filter.queue,
        kind: filter.kind,
        before,
        limit: limit + 1,
      });
      const tasks = rows.slice(0, limit);
      return { tasks, next: rows.length > limit ? tasks.at(-1)!.id : null };
    },
    watch,
    cancelById,
    cancelAll,
    async cancel(namespace, id, reason) {
      return cancelById((await read(namespace, id)).namespaceId, id, reason);
    },
    async *logs(namespace, id, cursor, follow, abort) {
      await read(namespace, id);
      let at = cursor;
      for (;;) {
        // The state is read before the lines: lines that were written before the end are then seen.
        const ended = !follow || (await endsOf(api, [id])).has(id);
        const rows = await readLogs(api, id, at, LOG_PAGE);
        if (rows.length > 0) {
          const last = rows.at(-1)!;
          at = { epoch: last.epoch, sequence: last.sequence };
          yield { rows, cursor: at };
          if (!abort.aborted) continue;
        }
        if (ended || abort.aborted) return;
        await ends.wait(id, 250, abort);
      }
    },
  };
}
