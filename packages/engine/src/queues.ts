import { isStorableText, Refusal } from '@baton/domain';
import { listQueues, type QueueRow, setQueuePaused } from '@baton/store';
import type { EngineEnvironment } from './environment.ts';
import type { LaneBook } from './lane-book.ts';
import { persist } from './persist.ts';

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

  return {
    async list(namespace, afterName, limit) {
      const namespaceId = await lanes.knownNamespaceId(namespace);
      return listQueues(api, { namespaceId, afterName, limit });
    },
    async pause(namespace, queue) {
      if (!isStorableText(queue))
        throw new Refusal('invalid_argument', 'INVALID_REQUEST', 'queue must not contain NUL or lone surrogates');
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
  };
}
