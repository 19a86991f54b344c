import { setTimeout as sleep } from 'node:timers/promises';
import type { Acquaintances, Line } from './client.ts';
import { openBaton } from './client.ts';
import type { Cluster } from './cluster.ts';
import { OPERATIONS, type Operation } from './operations/index.ts';
import type { Random } from './random.ts';
import type { Recorder } from './recorder.ts';

/** Lines of each client, and the mean pause between two operations of a line, ms. */
const LINES = 3;
const PAUSE_MS = 450;
/** While so many tasks have not ended, nothing new is begun: a run must be able to settle. */
const MAX_OPEN = 600;
/** Before the end of the load. */
const ENDS_SOON_MS = 25_000;

export interface Load {
  /** How often each operation was performed. */
  readonly performed: ReadonlyMap<string, number>;
  /** Begins nothing new; resolves when what was begun has been answered, or given up. */
  stop(): Promise<void>;
}

/** Clients at work until they are stopped. The seed decides what each line does, one thing after the other, but not when. */
export function startLoad(cluster: Cluster, recorder: Recorder, random: Random, loadMs: number): Load {
  const performed = new Map(OPERATIONS.map(({ name }) => [name, 0]));
  const known: Acquaintances = { tasks: [], runs: [] };
  const endsSoonAtMs = performance.now() + loadMs - ENDS_SOON_MS;
  let stopped = false;
  let open = 0;

  const line = async (name: string, own: string, other: string): Promise<void> => {
    const drawn = random.fork(name);
    let ops = 0;
    const made: Line = {
      name,
      baton: openBaton(own),
      other: openBaton(other),
      random: drawn,
      recorder,
      known,
      get endsSoon() {
        return performance.now() > endsSoonAtMs;
      },
      nextOp: () => `${name}-${++ops}`,
    };
    while (!stopped) {
      const operation = drawOperation(drawn);
      const pauseMs = drawn.next() * 2 * PAUSE_MS;
      await operation.perform(made);
      performed.set(operation.name, performed.get(operation.name)! + 1);
      await sleep(pauseMs);
      while (open > MAX_OPEN && !stopped) await sleep(100);
    }
  };
  const count = async () => {
    while (!stopped) {
      const [row] = await cluster.sql`
        select (select count(*) from baton.ready) + (select count(*) from baton.waiting)
          + (select count(*) from baton.leases) as open`.catch(() => []);
      open = Number(row?.open ?? open);
      await sleep(1_000);
    }
  };
  const urls = cluster.clientLinks.map(({ url }) => url);
  const working = Promise.all([
    count(),
    ...urls.flatMap((url, i) =>
      Array.from({ length: LINES }, (_, j) => line(`c${i + 1}.${j + 1}`, url, urls[(i + 1) % urls.length]!)),
    ),
  ]);
  working.catch(() => {}); // whoever stops it learns of it
  return {
    performed,
    async stop() {
      stopped = true;
      await working;
    },
  };
}

const TOTAL = OPERATIONS.reduce((sum, { weight }) => sum + weight, 0);

function drawOperation(random: Random): Operation {
  let left = random.next() * TOTAL;
  return OPERATIONS.find(({ weight }) => {
    left -= weight;
    return left < 0;
  })!;
}
