import { needsText } from '@baton/domain';
import {
  findNamespace,
  hex,
  internLane,
  internNamespace,
  type KnownPlanning,
  type Lane,
  type LaneKey,
  lanesAfter,
  listQueuePlannings,
  type QueuePlanning,
} from '@baton/store';
import { sha256 } from '../data/digest.ts';
import type { EngineEnvironment } from '../environment.ts';

/** Every lane that this master knows of, and a memory of names. All of it can be lost and read again. */
export interface LaneBook {
  /** For reads: 0, which no row has, when nobody has used the namespace yet. Reading does not make it. */
  knownNamespaceId(name: string): Promise<number>;
  /** For writes: makes it when it is new. */
  namespaceId(name: string): Promise<number>;
  laneFor(key: LaneKey): Promise<Lane>;
  get(id: number): Lane | undefined;
  /** Reads lanes that others made, and which are paused; returns those that are new here or no longer paused. */
  refresh(): Promise<Lane[]>;
  /** As `refresh`, of what was read with `newest` as the lane that is known. */
  learn(seen: readonly Lane[], planned: readonly KnownPlanning[]): Lane[];
  /** Lanes with lower ids were read; 0: none was. */
  newest(): number;
  all(): Iterable<Lane>;
  /** How the lane's queue is planned, where that is not as the master's settings say. */
  planningOf(lane: Lane): QueuePlanning | undefined;
  /** It was set here, before others hear of it. */
  setPlanning(namespaceId: number, queue: string, planning: QueuePlanning): void;
}

export function createLaneBook(env: EngineEnvironment): LaneBook {
  const namespaces = new Map<string, Promise<number>>();
  const byKey = new Map<string, Promise<Lane>>();
  const byId = new Map<number, Lane>();
  let highest = 0;
  let plannings = new Map<string, QueuePlanning>();
  const queueKey = (namespaceId: number, queue: string) => `${namespaceId}/${queue}`;

  const remember = <T>(map: Map<string, Promise<T>>, key: string, read: () => Promise<T>): Promise<T> => {
    let known = map.get(key);
    if (!known) {
      known = read();
      map.set(key, known);
      // A failed look-up must not stay.
      known.catch(() => map.delete(key));
    }
    return known;
  };

  function learn(seen: readonly Lane[], planned: readonly KnownPlanning[]): Lane[] {
    plannings = new Map(planned.map((queue) => [queueKey(queue.namespaceId, queue.name), queue]));
    const paused = new Set(seen.filter((lane) => lane.paused).map((lane) => lane.id));
    const news: Lane[] = [];
    for (const lane of byId.values()) {
      if (lane.paused && !paused.has(lane.id)) news.push(lane);
      lane.paused = paused.has(lane.id);
    }
    for (const lane of seen) {
      highest = Math.max(highest, lane.id);
      if (byId.has(lane.id)) continue;
      byId.set(lane.id, lane);
      news.push(lane);
    }
    return news;
  }

  return {
    async knownNamespaceId(name) {
      return (await namespaces.get(name)) ?? (await findNamespace(env.pools.api, name)) ?? 0;
    },
    namespaceId: (name) => remember(namespaces, name, () => internNamespace(env.pools.api, name)),
    laneFor(key) {
      const { namespaceId, queue, kind, executor, taskClass, tags } = key;
      const needs = key.needs ? needsText(key.needs) : '';
      const text = JSON.stringify([namespaceId, queue, kind, executor, taskClass, tags, needs]);
      return remember(byKey, text, async () => {
        const needsHash = needs === '' ? undefined : await hashOf(needs);
        const lane = await internLane(env.pools.api, { ...key, needsHash });
        byId.set(lane.id, lane);
        return lane;
      });
    },
    get: (id) => byId.get(id),
    async refresh() {
      return learn(...(await Promise.all([lanesAfter(env.pools.api, highest), listQueuePlannings(env.pools.api)])));
    },
    learn,
    newest: () => highest,
    all: () => byId.values(),
    planningOf: (lane) => (plannings.size === 0 ? undefined : plannings.get(queueKey(lane.namespaceId, lane.queue))),
    setPlanning(namespaceId, queue, planning) {
      plannings.set(queueKey(namespaceId, queue), planning);
    },
  };
}

async function hashOf(text: string): Promise<string> {
  return hex(await sha256(new TextEncoder().encode(text)));
}
