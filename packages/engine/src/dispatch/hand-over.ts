import type { Grant, Handed, Takers } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';
import type { Dispatcher } from './dispatcher.ts';

/** A task about to be stored that needs nothing but its input: all that its lease will say. */
export type Handable = Pick<
  Grant,
  'taskId' | 'laneId' | 'maxAttempts' | 'startToCloseMs' | 'encoding' | 'input' | 'runId'
> & { priority: number };

const FIRST = { epoch: 1, attempt: 1 };

/**
 * Stores tasks, and leases those in the same statement for which a worker waits. The highest priority first, then in the order given.
 * Where the statement has to be repeated, what an earlier try handed over is not known: its workers never hear of it, and it comes
 * back as any lease whose answer was lost.
 *
 * @param tasks null: not this one
 * @param store is told who waits for which
 * @returns also the tasks that are with workers now
 */
export async function storeHanding<Result extends { handed: Handed }>(
  env: EngineEnvironment,
  reserve: Dispatcher['reserve'],
  tasks: readonly (Handable | null)[],
  store: (takers: Takers) => Promise<Result>,
): Promise<{ result: Result; handed: Handed }> {
  const order = tasks
    .flatMap((task, at) => (task === null ? [] : [{ task, at }]))
    .sort((a, b) => b.task.priority - a.task.priority);
  const reserved = order.length === 0 ? null : reserve(order.map(({ task }) => task));
  const takers: (string | null)[] = tasks.map(() => null);
  for (const [n, { at }] of order.entries()) takers[at] = reserved?.takers[n] ?? null;
  let sentAt = env.now();
  let grants: Grant[] = [];
  try {
    const result = await persist(() => {
      sentAt = env.now();
      return store(takers);
    }, env.random);
    grants = order.flatMap(({ task: { priority: _, ...task } }) => {
      const sessionId = result.handed.get(task.taskId);
      return sessionId === undefined ? [] : [{ ...task, ...FIRST, sessionId }];
    });
    return { result, handed: result.handed };
  } finally {
    reserved?.end(grants, sentAt);
  }
}
