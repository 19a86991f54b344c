import type { EventPosition, EventRow } from '@baton/store';
import { eventsNow, readEvents } from '@baton/store';
import type { EngineEnvironment } from './environment.ts';

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

export type HubListener = (batch: HubBatch) => void;

/**
 * One tailer of the event log for this master. It reads only while somebody listens: soon after a hint that something was written
 * here, and twice a second for what others wrote.
 */
export interface EventHub {
  /** Batches in order, from some position between the call and now on. Returns the end of it. */
  listen(listener: HubListener): () => void;
  /** Something was committed here. */
  poke(): void;
  close(): void;
}

const ROWS = 500;
const EAGER_MS = 15;
const IDLE_MS = 500;

export function createEventHub(env: EngineEnvironment): EventHub {
  const listeners = new Set<HubListener>();
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
          const rows = await readEvents(env.pools.api, position, ROWS);
          for (const row of rows) {
            position = { xid: row.xid, id: row.id };
            const batch = unpack(row);
            for (const listener of listeners) listener(batch);
          }
          if (rows.length === ROWS) continue;
        } catch (error) {
          env.log.warn('event log not readable', { error: String(error) });
        }
        await pause(env.now() < eagerUntil ? EAGER_MS : IDLE_MS);
      }
    } finally {
      running = false;
      position = null;
      // Somebody may have come between the last look and now.
      if (listeners.size > 0 && !closed) void tail();
    }
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

  return {
    listen(listener) {
      listeners.add(listener);
      if (!running) void tail();
      return () => listeners.delete(listener);
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
      wake?.();
    },
  };
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
