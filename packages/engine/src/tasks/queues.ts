import { isStorableText, Refusal } from '@baton/domain';
import { listQueues, type QueuePlanning, type QueueRow, setQueuePaused, setQueuePlanning } from '@baton/store';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';

/** Looking at queues, holding them and letting them go on. */
export interface Queues {
  /** By name, a keyset page: those after this name. */
  list(namespace: string, afterName: string, limit: number): Promise<QueueRow[]>;
  /**
   * When it returns, nothing more is granted from the queue, by any master; what was granted goes on. A queue that nobody has used yet
   * may be paused before its first task.
   *
   * @returns whether it was paused before. @throws Refusal INVALID_REQUEST
   */
  pause(namespace: string, queue: string): Promise<boolean>;
  /** @returns whether it was paused before. @throws Refusal QUEUE_NOT_FOUND */
  resume(namespace: string, queue: string): Promise<boolean>;
  /**
   * How the queue's tasks are given to workers, from now on by this master, within a sweep by the others. Undefined: as it is; null: as
   * each master's own setting says. A queue that nobody has used yet is made.
   *
   * @returns as it is then. @throws Refusal INVALID_REQUEST
   */
  plan(
    namespace: string,
    queue: string,
    change: { [Field in keyof QueuePlanning]?: QueuePlanning[Field] | undefined },
  ): Promise<QueuePlanning>;
}

/** @param onOpen told when lanes may have work again */
export function createQueues(env: EngineEnvironment, lanes: LaneBook, onOpen: () => void): Queues {
  const { api } = env.pools;

  async function set(namespaceId: number, queue: string, paused: boolean): Promise<boolean | null> {
    const was = await persist(() => setQueuePaused(api, namespaceId, queue, paused), env.random);
    for (const lane of lanes.all()) if (lane.namespaceId === namespaceId && lane.queue === queue) lane.paused = paused;
    if (was === !paused) env.log.info(paused ? 'queue paused' : 'queue resumed', { queue, namespace_id: namespaceId });
    return was;
  }

  const checkName = (queue: string) => {
    if (!isStorableText(queue))
      throw new Refusal('invalid_argument', 'INVALID_REQUEST', 'queue must not contain NUL or lone surrogates');
  };

  return {
    async list(namespace, afterName, limit) {
      const namespaceId = await lanes.knownNamespaceId(namespace);
      return listQueues(api, { namespaceId, afterName, limit });
    },
    async pause(namespace, queue) {
      checkName(queue);
      return (await set(await lanes.namespaceId(namespace), queue, true))!;
    },
    async resume(namespace, queue) {
      const was = !isStorableText(queue) ? null : await set(await lanes.knownNamespaceId(namespace), queue, false);
      if (was === null)
        throw new Refusal(
          'not_found',
          'QUEUE_NOT_FOUND',
          `no queue is named ${JSON.stringify(queue)} in this namespace`,
        );
      onOpen();
      return was;
    },
    async plan(namespace, queue, change) {
      checkName(queue);
      const namespaceId = await lanes.namespaceId(namespace);
      const planning = await persist(() => setQueuePlanning(api, namespaceId, queue, change), env.random);
      lanes.setPlanning(namespaceId, queue, planning);
      env.log.info('queue planned', { queue, namespace_id: namespaceId, ...planning });
      return planning;
    },
  };
}
