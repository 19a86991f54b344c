import type { EventPosition, EventRow } from '@baton/store';
import { eventsNow, readEvents, workerNames } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';

/** One event, taken out of its row. */
export interface HubEvent {
  type: number;
  at: Date;
  namespaceId: number;
  /** Empty: none. */
  taskId: string;
  runId: string;
  attempt: number;
  workerId: number;
}

/** A row of the log, unpacked; positions are between rows. */
export interface HubBatch {
  position: EventPosition;
  events: HubEvent[];
}

/** What was read at once: the same object for all that listen, none of whom changes it. */
export interface HubRound {
  /** At least one, in order. */
  readonly batches: readonly HubBatch[];
  /** What one listener made of this round, for others who want the same: see `watchEvents`. */
  readonly made: Map<string, unknown>;
}

export type HubListener = (round: HubRound) => void;

/**
 * One tailer of the event log for this master. It reads only while somebody listens: soon after a hint that something was written
 * here, and twice a second for what others wrote.
 */
export interface EventHub {
  /** Rounds in order, from some position on: see `standing`. Returns the end of it. */
  listen(listener: HubListener): () => void;
  /**
   * Resolves when the tailer stands somewhere: whatever is not readable yet when it has resolved comes to those that listen. Before,
   * the tailer may begin behind what is read meanwhile. Resolves when the hub is closed, too.
   */
  standing(): Promise<void>;
  /** A worker's name; empty for 0, and for one that does not exist any more. */
  workerName(id: number): Promise<string>;
  /** Listeners now. */
  readonly listeners: number;
  /** Something was committed here. */
  poke(): void;
  close(): void;
}

const ROWS = 500;
/** Of one read, so that it is bounded in bytes: a row of a claim has up to 2 000. */
const EVENTS = 20_000;
/** A round has no more rows once it has so many. */
const ROUND_EVENTS = 1_000;
const EAGER_MS = 15;
/**
 * More for each listener: telling one of a round costs the master about 0.03 ms, however much is in it, so that many listeners are told less
 * often of more. 1 000 hear of what happens ten times a second, and the master is busy with them for a third of its time.
 */
const EAGER_MS_PER_LISTENER = 0.08;
const IDLE_MS = 500;

export function createEventHub(env: EngineEnvironment): EventHub {
  const listeners = new Set<HubListener>();
  const waiting = new Set<() => void>();
  let position: EventPosition | null = null;
  let running = false;
  let closed = false;
  let eagerUntil = 0;
  let wake: (() => void) | null = null;

  async function tail(): Promise<void> {
    running = true;
    try {
      while (listeners.size > 0 && !closed) {
        try {
          position ??= await eventsNow(env.pools.api);
          stand();
          const rows = await readEvents(env.pools.api, position, ROWS, EVENTS);
          for (const round of rounds(rows)) {
            position = round.batches.at(-1)!.position;
            for (const listener of [...listeners]) listener(round);
          }
          if (isFullPage(rows, ROWS, EVENTS)) continue;
        } catch (error) {
          env.log.warn('event log not readable', { error: String(error) });
        }
        await pause(env.now() < eagerUntil ? EAGER_MS + listeners.size * EAGER_MS_PER_LISTENER : IDLE_MS);
      }
    } finally {
      running = false;
      position = null;
      // Somebody may have come between the last look and now.
      if (listeners.size > 0 && !closed) void tail();
    }
  }

  function stand(): void {
    for (const resolve of waiting) resolve();
    waiting.clear();
  }

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms);
      function done() {
        clearTimeout(timer);
        wake = null;
        resolve();
      }
      wake = done;
    });

  /** For all that watch here. A name that is not known was given since: read all again. */
  let names: Promise<Map<number, string>> | null = null;
  async function workerName(id: number): Promise<string> {
    if (id === 0) return '';
    const known = await names?.catch(() => null);
    if (!known?.has(id)) {
      names = workerNames(env.pools.api).then((all) => (all.has(id) ? all : all.set(id, '')));
      names.catch(() => {});
    }
    return (await names!).get(id) ?? '';
  }

  return {
    workerName,
    get listeners() {
      return listeners.size;
    },
    listen(listener) {
      listeners.add(listener);
      if (!running) void tail();
      return () => listeners.delete(listener);
    },
    standing() {
      if (position !== null || closed) return Promise.resolve();
      return new Promise((resolve) => waiting.add(resolve));
    },
    poke() {
      if (listeners.size === 0) return;
      const wasEager = env.now() < eagerUntil;
      // A transaction that is still open elsewhere hides what was just written: look a few times.
      eagerUntil = env.now() + 300;
      if (!wasEager) wake?.();
    },
    close() {
      closed = true;
      listeners.clear();
      stand();
      wake?.();
    },
  };
}

/** Whether `readEvents` may have left something out. */
export function isFullPage(rows: readonly EventRow[], maxRows: number, maxEvents: number): boolean {
  return rows.length >= maxRows || rows.reduce((sum, row) => sum + row.types.length, 0) >= maxEvents;
}

function* rounds(rows: readonly EventRow[]): Generator<HubRound> {
  let batches: HubBatch[] = [];
  let events = 0;
  for (const row of rows) {
    batches.push(unpack(row));
    events += row.types.length;
    if (events < ROUND_EVENTS) continue;
    yield roundOf(batches);
    batches = [];
    events = 0;
  }
  if (batches.length > 0) yield roundOf(batches);
}

export function roundOf(batches: readonly HubBatch[]): HubRound {
  return { batches, made: new Map() };
}

export function unpack(row: EventRow): HubBatch {
  return {
    position: { xid: row.xid, id: row.id },
    events: row.types.map((type, i) => ({
      type,
      at: row.at,
      namespaceId: row.namespaceIds[i]!,
      taskId: row.taskIds[i] === '0' ? '' : row.taskIds[i]!,
      runId: row.runIds[i] === '0' ? '' : row.runIds[i]!,
      attempt: row.attempts[i]!,
      workerId: row.workerIds[i]!,
    })),
  };
}
