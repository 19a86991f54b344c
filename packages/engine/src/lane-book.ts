import { findNamespace, internLane, internNamespace, type Lane, type LaneKey, lanesAfter } from '@baton/store';
import type { EngineEnvironment } from './environment.ts';

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
  all(): Iterable<Lane>;
}

export function createLaneBook(env: EngineEnvironment): LaneBook {
  const namespaces = new Map<string, Promise<number>>();
  const byKey = new Map<string, Promise<Lane>>();
  const byId = new Map<number, Lane>();
  let highest = 0;

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

  return {
    async knownNamespaceId(name) {
      return (await namespaces.get(name)) ?? (await findNamespace(env.pools.api, name)) ?? 0;
    },
    namespaceId: (name) => remember(namespaces, name, () => internNamespace(env.pools.api, name)),
    laneFor(key) {
      const text = JSON.stringify([key.namespaceId, key.queue, key.kind, key.executor, key.taskClass, key.tags]);
      return remember(byKey, text, async () => {
        const lane = await internLane(env.pools.api, key);
        byId.set(lane.id, lane);
        return lane;
      });
    },
    get: (id) => byId.get(id),
    async refresh() {
      const seen = await lanesAfter(env.pools.api, highest);
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
    },
    all: () => byId.values(),
  };
}
