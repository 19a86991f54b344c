import { readEnds, type Success, type TaskEnd } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';

/** Ends of tasks, for those who wait for many. */
export interface TaskEnds {
  /**
   * Resolves as soon as one of these has ended, or a few milliseconds later while others have not, with all that have; or with none when the
   * time is over. `missing` are no tasks of the namespace. An answer has about `MAX_ANSWER_BYTES`; what has no place in it comes with the
   * next.
   */
  wait(
    namespaceId: number,
    taskIds: readonly string[],
    waitMs: number,
    abort: AbortSignal,
  ): Promise<{ ends: TaskEnd[]; missing: string[] }>;
  /** It has ended, with this success; without, Postgres knows how. */
  tell(taskId: string, success?: Success): void;
  /** Some may have ended, and nobody said which. */
  tellAll(): void;
}

export const MAX_ANSWER_BYTES = 3 * 1024 * 1024;
/** What is told here, and by other masters' hints, may be lost: that costs so much. */
const LOOK_AGAIN_MS = 1_000;
/** So long an answer waits for other ends; it costs about 10 µs for each task that is asked for, so those of many wait longer. */
const GATHER_MS = 2;
const GATHER_MS_A_TASK = 0.05;
/** Where nobody is told. */
const LOOK_MS = 100;

/**
 * Each wait costs one statement, for all of its tasks: whoever is told of an end by this master is told what came out, too, and reads nothing.
 * Callers who begin anew when they are told do so together then, and go on together, through all that is done once for many.
 *
 * @param hears whether this process is told of ends; else it looks often
 */
export function createTaskEnds(env: EngineEnvironment, hears: boolean): TaskEnds {
  const listeners = new Map<string, Set<Listener>>();
  const lookMs = hears ? LOOK_AGAIN_MS : LOOK_MS;

  function listen(taskIds: readonly string[]): Listener {
    const listener = new Listener();
    for (const id of taskIds) {
      const others = listeners.get(id);
      if (others) others.add(listener);
      else listeners.set(id, new Set([listener]));
    }
    return listener;
  }

  function leave(taskIds: readonly string[], listener: Listener): void {
    for (const id of taskIds) {
      const others = listeners.get(id);
      if (others?.delete(listener) && others.size === 0) listeners.delete(id);
    }
  }

  return {
    async wait(namespaceId, taskIds, waitMs, abort) {
      const until = env.now() + waitMs;
      const ids = [...new Set(taskIds)];
      // Before the look: what ends behind it is heard of.
      const listener = listen(ids);
      try {
        const { ends, open, later } = await readEnds(env.pools.api, namespaceId, ids, MAX_ANSWER_BYTES, true);
        const seen = new Set([...ends.map(({ taskId }) => taskId), ...open, ...later]);
        const missing = ids.filter((id) => !seen.has(id));
        const waiting = new Set(open);
        let bytes = ends.reduce((sum, end) => sum + sizeOf(end), 0);

        /** What has been told since; of the rest what Postgres says. */
        const take = async (unsure: readonly string[]) => {
          const toRead = new Set(unsure);
          for (const [id, end] of listener.take()) {
            if (!waiting.has(id)) continue;
            if (end === undefined) toRead.add(id);
            else if (bytes < MAX_ANSWER_BYTES) {
              ends.push(end);
              bytes += sizeOf(end);
              waiting.delete(id);
              toRead.delete(id);
            }
          }
          if (toRead.size === 0 || bytes >= MAX_ANSWER_BYTES) return;
          const read = await readEnds(env.pools.api, namespaceId, [...toRead], MAX_ANSWER_BYTES - bytes, false);
          for (const end of read.ends) {
            ends.push(end);
            bytes += sizeOf(end);
            waiting.delete(end.taskId);
          }
        };

        while (ends.length === 0 && missing.length === 0 && waiting.size > 0 && !abort.aborted) {
          const leftMs = until - env.now();
          if (leftMs <= 0) break;
          await take((await listener.next(Math.min(leftMs, lookMs), abort)) ? [] : [...waiting]);
        }
        const gatherMs = hears ? Math.max(GATHER_MS, ids.length * GATHER_MS_A_TASK) : 0;
        const mayGather = gatherMs > 0 && ends.length > 0 && missing.length === 0 && until - env.now() > gatherMs;
        if (mayGather && waiting.size > 0 && later.length === 0 && !abort.aborted) {
          await new Promise((resolve) => setTimeout(resolve, gatherMs));
          await take([]);
        }
        return { ends, missing };
      } finally {
        leave(ids, listener);
      }
    },
    tell(taskId, success) {
      const told = listeners.get(taskId);
      if (told === undefined) return;
      const end = success && endOf(success);
      for (const listener of told) listener.hear(taskId, end);
    },
    tellAll() {
      for (const [id, told] of listeners) for (const listener of told) listener.hear(id, undefined);
    },
  };
}

/** Undefined where a blob is the output: its size is in Postgres. */
function endOf({ taskId, output, encoding, outputBlob }: Success): TaskEnd | undefined {
  if (outputBlob) return undefined;
  return { taskId, state: 'succeeded', output, encoding, outputBlob: null, failure: null, cancelReason: null };
}

const sizeOf = ({ output, failure }: TaskEnd): number =>
  (output?.byteLength ?? 0) + (failure === null ? 0 : failure.message.length + (failure.stack?.length ?? 0)) + 100;

/** What one wait was told and has not taken yet. */
class Listener {
  #told = new Map<string, TaskEnd | undefined>();
  #wake: () => void = () => {};

  hear(taskId: string, end: TaskEnd | undefined): void {
    this.#told.set(taskId, this.#told.get(taskId) ?? end);
    this.#wake();
  }

  take(): Map<string, TaskEnd | undefined> {
    const told = this.#told;
    this.#told = new Map();
    return told;
  }

  /** True as soon as something has been told; false after the time, or when aborted. */
  next(timeoutMs: number, abort: AbortSignal): Promise<boolean> {
    if (this.#told.size > 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const done = (isTold: boolean) => {
        clearTimeout(timer);
        abort.removeEventListener('abort', onAbort);
        this.#wake = () => {};
        resolve(isTold);
      };
      const onAbort = () => done(false);
      const timer = setTimeout(() => done(false), timeoutMs);
      abort.addEventListener('abort', onAbort, { once: true });
      this.#wake = () => done(true);
    });
  }
}
