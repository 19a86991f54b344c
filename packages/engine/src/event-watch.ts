import { Refusal } from '@baton/domain';
import {
  type EventPosition,
  eventsNow,
  eventsSince,
  reachesBack,
  readEvents,
  readLogId,
  workerNames,
} from '@baton/store';
import type { EngineEnvironment } from './environment.ts';
import { type EventHub, type HubBatch, type HubEvent, unpack } from './event-hub.ts';

export interface EventFilter {
  name: string;
  /** Empty: all. */
  types: ReadonlySet<number>;
  taskIds: ReadonlySet<string>;
  runIds: ReadonlySet<string>;
}

export interface WatchedEvent extends HubEvent {
  worker: string;
  subscriptions: string[];
}

export interface WatchedBatch {
  events: WatchedEvent[];
  cursor: string;
}

/** Rows that a slow reader may be behind in memory; beyond it reads them from Postgres again. */
const BUFFER_ROWS = 1_000;
const PAGE_ROWS = 500;
const SIGN_OF_LIFE_MS = 15_000;

/**
 * The event log from a cursor on, without loss or repetition: first from Postgres, then live. A reader that is too slow for its
 * buffer goes back to reading from Postgres, from where it stands; memory stays bounded and nothing is lost.
 *
 * @throws Refusal CURSOR_EXPIRED, INVALID_CURSOR
 */
export async function* watchEvents(
  env: EngineEnvironment,
  hub: EventHub,
  namespaceId: number,
  filters: readonly EventFilter[],
  from: { cursor?: string; since?: Date },
  abort: AbortSignal,
): AsyncGenerator<WatchedBatch> {
  const { api } = env.pools;
  const logId = await readLogId(api);
  let position = from.cursor
    ? await resume(env, logId, from.cursor)
    : from.since
      ? await eventsSince(api, from.since)
      : await eventsNow(api);
  let names = await workerNames(api);
  const nameOf = async (id: number) => {
    if (id === 0) return '';
    if (!names.has(id)) names = await workerNames(api);
    return names.get(id) ?? '';
  };
  const select = async (batch: HubBatch): Promise<WatchedEvent[]> => {
    const selected: WatchedEvent[] = [];
    for (const event of batch.events) {
      if (event.namespaceId !== namespaceId) continue;
      const subscriptions = filters.filter((f) => matches(f, event)).map((f) => f.name);
      if (subscriptions.length > 0) selected.push({ ...event, worker: await nameOf(event.workerId), subscriptions });
    }
    return selected;
  };
  const cursorOf = (at: EventPosition) => `${logId}.${at.xid}.${at.id}`;

  yield { events: [], cursor: cursorOf(position) };

  while (!abort.aborted) {
    let buffer: HubBatch[] = [];
    let overflow = false;
    let wake: (() => void) | null = null;
    const stop = hub.listen((batch) => {
      if (buffer.length >= BUFFER_ROWS) overflow = true;
      else buffer.push(batch);
      wake?.();
    });
    const onAbort = () => wake?.();
    abort.addEventListener('abort', onAbort, { once: true });
    try {
      // What was written before the listener stood is read from Postgres; what both have is skipped by its position.
      for (;;) {
        const rows = await readEvents(api, position, PAGE_ROWS);
        for (const row of rows) {
          const batch = unpack(row);
          position = batch.position;
          const events = await select(batch);
          if (events.length > 0) yield { events, cursor: cursorOf(position) };
          if (abort.aborted) return;
        }
        if (rows.length < PAGE_ROWS) break;
      }
      while (!abort.aborted && !overflow) {
        const batch = buffer.shift();
        if (!batch) {
          const woken = await new Promise<boolean>((resolve) => {
            const timer = setTimeout(() => resolve(false), SIGN_OF_LIFE_MS);
            wake = () => {
              clearTimeout(timer);
              resolve(true);
            };
            if (abort.aborted || buffer.length > 0) wake();
          });
          wake = null;
          if (!woken) yield { events: [], cursor: cursorOf(position) };
          continue;
        }
        if (!isBehind(position, batch.position)) continue;
        position = batch.position;
        const events = await select(batch);
        if (events.length > 0) yield { events, cursor: cursorOf(position) };
      }
    } finally {
      stop();
      buffer = [];
      abort.removeEventListener('abort', onAbort);
    }
  }
}

async function resume(env: EngineEnvironment, logId: string, cursor: string): Promise<EventPosition> {
  const [log, xid, id, ...more] = cursor.split('.');
  if (!log || !xid || !id || more.length > 0 || !/^\d{1,19}$/.test(xid) || !/^\d{1,19}$/.test(id))
    throw new Refusal('invalid_argument', 'INVALID_CURSOR', 'this is not a cursor of Watch');
  const position = { xid, id };
  // No master has handed out a position beyond the present: it is made up, or this database was set back.
  const isAhead = isBehind(await eventsNow(env.pools.api), position);
  if (isAhead || log !== logId || !(await reachesBack(env.pools.api, position)))
    throw new Refusal(
      'failed_precondition',
      'CURSOR_EXPIRED',
      'history does not reach to this cursor: read the state, then watch from now',
    );
  return position;
}

function isBehind(a: EventPosition, b: EventPosition): boolean {
  const x = BigInt(a.xid) - BigInt(b.xid);
  return x < 0n || (x === 0n && BigInt(a.id) < BigInt(b.id));
}

function matches(filter: EventFilter, event: HubEvent): boolean {
  return (
    (filter.types.size === 0 || filter.types.has(event.type)) &&
    (filter.taskIds.size === 0 || filter.taskIds.has(event.taskId)) &&
    (filter.runIds.size === 0 || filter.runIds.has(event.runId))
  );
}
