import { type FailureType, Refusal } from '@baton/domain';
import {
  type DeadTaskRow,
  type FailureKey,
  type FailureRow,
  type FailureStatistics,
  listDead,
  listFailures,
  readFailureStatistics,
  readWishes,
  type TaskWish,
} from '@baton/store';
import type { Artifacts } from '../data/artifacts.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import { requestedNeeds } from '../dispatch/needs.ts';
import { isPreferenceTag } from '../dispatch/preference.ts';
import type { EngineEnvironment } from '../environment.ts';
import { ARTIFACTS_TAG } from '../sessions/protocol.ts';
import type { Submitted, Submitter, TaskRequest } from './submit.ts';
import { loadedExecutor } from './task-executor.ts';

export interface FailureFilter {
  worker: string | null;
  taskId: string | null;
  types: readonly FailureType[];
  sinceMs: number | null;
}

export interface DeadFilter {
  queue: string | null;
  kind: string | null;
  types: readonly FailureType[];
  includeResent: boolean;
}

/** What went wrong, and sending it again. */
export interface Failures {
  /** Newest first; `next` is the key to go on behind, or null at the end. */
  list(
    namespace: string,
    filter: FailureFilter,
    after: FailureKey | null,
    limit: number,
  ): Promise<{ failures: FailureRow[]; next: FailureKey | null }>;
  statistics(namespace: string, windowMs: number): Promise<FailureStatistics>;
  /** Tasks that failed for good, newest first; `next` is the id to go on below. */
  dead(
    namespace: string,
    filter: DeadFilter,
    before: string | null,
    limit: number,
  ): Promise<{ tasks: DeadTaskRow[]; next: string | null }>;
  /**
   * Submits ended tasks again, each as a new one with `retry_of`, whatever their end was; in the order given, each with its own refusal.
   * @param key the same key gives the same new tasks for 30 days; another one sends them once more
   */
  resend(namespace: string, taskIds: readonly string[], key: string): Promise<(Submitted | Refusal)[]>;
}

/** Without a key of the caller's: once for all. */
export const RESEND_ONCE = 'once';
const RESEND_TTL_MS = 30 * 86_400_000;
/** Inputs of so many tasks are in memory at once. */
const RESEND_AT_ONCE = 20;

export function createFailures(
  env: EngineEnvironment,
  lanes: LaneBook,
  submitter: Submitter,
  artifacts: Pick<Artifacts, 'inputsOf'>,
): Failures {
  const { api } = env.pools;

  async function sendAgain(namespace: string, id: string, wish: TaskWish | undefined, key: string) {
    if (!wish) return new Refusal('not_found', 'TASK_NOT_FOUND', `task ${id} does not exist in this namespace`);
    if (wish.ended === null)
      return new Refusal('failed_precondition', 'TASK_NOT_ENDED', `task ${id} has not ended; it is not sent again`);
    try {
      const files = wish.tags.includes(ARTIFACTS_TAG) ? await artifacts.inputsOf(id) : [];
      const wanted = files.map(({ name, sha256, producerTaskId }) => [
        name,
        { sha256, ...(producerTaskId !== null && { taskId: producerTaskId }) },
      ]);
      return await submitter.submit(namespace, {
        ...requestOf(wish, key),
        ...(wanted.length > 0 && { artifacts: Object.fromEntries(wanted) }),
      });
    } catch (error) {
      // What is no refusal concerns the whole call: the client repeats it.
      if (error instanceof Refusal) return error;
      throw error;
    }
  }

  return {
    async list(namespace, filter, after, limit) {
      const namespaceId = await lanes.knownNamespaceId(namespace);
      const rows = await listFailures(api, { namespaceId, ...filter, after, limit: limit + 1 });
      const failures = rows.slice(0, limit);
      const last = failures.at(-1);
      const next = rows.length > limit && last ? { atUs: last.atUs, taskId: last.taskId, epoch: last.epoch } : null;
      return { failures, next };
    },

    async statistics(namespace, windowMs) {
      return readFailureStatistics(api, await lanes.knownNamespaceId(namespace), windowMs);
    },

    async dead(namespace, filter, before, limit) {
      const namespaceId = await lanes.knownNamespaceId(namespace);
      const rows = await listDead(api, { namespaceId, ...filter, before, limit: limit + 1 });
      const tasks = rows.slice(0, limit);
      return { tasks, next: rows.length > limit ? tasks.at(-1)!.task.id : null };
    },

    async resend(namespace, taskIds, key) {
      const namespaceId = await lanes.knownNamespaceId(namespace);
      const results: (Submitted | Refusal)[] = [];
      for (let from = 0; from < taskIds.length; from += RESEND_AT_ONCE) {
        const ids = taskIds.slice(from, from + RESEND_AT_ONCE);
        const wishes = await readWishes(api, namespaceId, ids);
        results.push(...(await Promise.all(ids.map((id) => sendAgain(namespace, id, wishes.get(id), key)))));
      }
      return results;
    },
  };
}

/** What the old task asked for, but for its time, its run and its own key. */
function requestOf(wish: TaskWish, key: string): TaskRequest {
  const { retry, labels, scheduleToStartMs, progressTimeoutMs, inputBlob } = wish;
  const { executor, environment } = loadedExecutor(wish.executor, wish.executorConfig);
  return {
    kind: wish.kind,
    queue: wish.queue,
    taskClass: wish.taskClass,
    // Where its files lie now is looked at anew.
    tags: wish.tags.filter((tag) => !isPreferenceTag(tag)),
    ...requestedNeeds(wish.needs),
    executor,
    ...(environment && { environment }),
    input: wish.input,
    encoding: wish.encoding,
    priority: wish.priority,
    retry: { ...retry, maxAttempts: wish.maxAttempts },
    startToCloseMs: wish.startToCloseMs,
    ...(scheduleToStartMs !== null && { scheduleToStartMs }),
    ...(progressTimeoutMs !== null && { progressTimeoutMs }),
    ...(inputBlob !== null && { inputBlob }),
    ...(labels && { labels }),
    retryOf: wish.id,
    idempotencyKey: key,
    idempotencyScope: `resend:${wish.id}`,
    idempotencyTtlMs: RESEND_TTL_MS,
  };
}
