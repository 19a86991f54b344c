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
/**
 * While more tasks are open than this machine lately ended in so many seconds (and more than the least, or more than the most),
 * nothing new is begun: a run must be able to settle, on a busy machine too.
 */
const OPEN_SECONDS = 15;
const LEAST_OPEN = 200;
const MOST_OPEN = 600;
/** The best pace of this time counts: outages are no reason to submit less. */
const PACE_SECONDS = 30;
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
  let mostOpen = LEAST_OPEN;

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
      while (open > mostOpen && !stopped) await sleep(100);
    }
  };
  const count = async () => {
    /** Tasks that have ended, nearly (nodes of runs are not known), second by second. */
    const ended: number[] = [];
    while (!stopped) {
      const [row] = await cluster.sql`
        select (select count(*) from baton.ready) + (select count(*) from baton.waiting)
          + (select count(*) from baton.leases) as open`.catch(() => []);
      open = Number(row?.open ?? open);
      ended.push(recorder.acknowledged.size - open);
      if (ended.length > PACE_SECONDS) ended.shift();
      // Over five seconds: ends come in bursts.
      const paces = ended.slice(5).map((count, i) => (count - ended[i]!) / 5);
      mostOpen = Math.min(MOST_OPEN, Math.max(LEAST_OPEN, OPEN_SECONDS * Math.max(0, ...paces)));
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
