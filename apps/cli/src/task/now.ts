import type { TaskView } from '@baton/client';
import { durationText } from '../terminal/words.ts';

/** How long a task has been going on or took; undefined while it waits, though an earlier attempt began once. */
export function taskTimeText(task: TaskView, nowMs: number): string | undefined {
  if (task.state !== 'leased' && task.endTime === undefined) return undefined;
  return durationText(task.startTime, task.endTime, nowMs);
}

/** Whose a task is, or was last. Undefined when it waits for any worker; in backoff, that of the attempt that failed. */
export function taskWorker({ state, worker }: TaskView): string | undefined {
  return state === 'ready' || state === 'scheduled' || state === 'blocked' ? undefined : worker;
}
