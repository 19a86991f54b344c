import { Refusal } from '@baton/domain';
import { type EventPosition, eventsNow, isBehind, lastDropped, reachesBack, readEvents, readLogId } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { type EventHub, type HubRound, isFullPage, roundOf, unpack } from './event-hub.ts';

/**
 * What one follower may have in memory. Beyond, what was gathered is thrown away and it reads from Postgres again, from where it
 * stands, when its reader comes back: 200 readers that stand still cost nothing but their places.
 */
const BUFFERED_EVENTS = 5_000;
/** A page from Postgres: at least one row, and no more rows than have so many events together. */
const PAGE_ROWS = 500;
const PAGE_EVENTS = 1_000;
/** Without a hub: how often Postgres is asked. */
const POLL_MS = 500;

/** A silent stream says after so long that it lives, and where it stands. */
export const SIGN_OF_LIFE_MS = 15_000;

/**
 * The event log behind a position, in order, without loss or repetition: first from Postgres, row by row, then live, in the rounds of the
 * hub, which are the same objects for all that follow. Gives null when nothing came for SIGN_OF_LIFE_MS. Ends when aborted.
 *
 * @param hub null: nobody tails the log in this process, it is polled
 * @throws Refusal CURSOR_EXPIRED when what comes next was dropped meanwhile
 */
export async function* followLog(
  env: EngineEnvironment,
  hub: EventHub | null,
  from: EventPosition,
  abort: AbortSignal,
): AsyncGenerator<HubRound | null> {
  const { api } = env.pools;
  let position = from;
  const aborted = new Promise<void>((resolve) => abort.addEventListener('abort', () => resolve(), { once: true }));
  while (!abort.aborted) {
    const inbox = createInbox(hub, abort);
    try {
      if (hub && !abort.aborted) await Promise.race([hub.standing(), aborted]);
      // What was written before the inbox stood is read from Postgres; what both have is skipped by its position.
      for (let more = true; more; ) {
        const before = position;
        const rows = await readEvents(api, position, PAGE_ROWS, PAGE_EVENTS);
        // After the read: whoever drops history says so first.
        const dropped = await lastDropped(api);
        if (dropped && isBehind(before, dropped)) throw expired();
        more = isFullPage(rows, PAGE_ROWS, PAGE_EVENTS);
        for (let row = rows.shift(); row; row = rows.shift()) {
          const batch = unpack(row);
          position = batch.position;
          yield roundOf([batch]);
          if (abort.aborted) return;
        }
      }
      while (!abort.aborted && !inbox.overflown) {
        const round = inbox.take();
        if (round) {
          const after = position;
          position = round.batches.at(-1)!.position;
          if (isBehind(after, round.batches[0]!.position)) yield round;
          else {
            const batches = round.batches.filter((batch) => isBehind(after, batch.position));
            if (batches.length === 0) position = after;
            else yield roundOf(batches);
          }
        } else if (!(await inbox.wait(hub ? SIGN_OF_LIFE_MS : POLL_MS))) {
          if (!hub) break;
          yield null;
        }
      }
    } finally {
      inbox.close();
    }
    if (!hub) yield null;
  }
}

const eventsOf = (round: HubRound) => round.batches.reduce((sum, batch) => sum + batch.events.length, 0);

interface Inbox {
  readonly overflown: boolean;
  take(): HubRound | undefined;
  /** Until there is something, or it has overflown, or was aborted: true. After the time: false. */
  wait(timeoutMs: number): Promise<boolean>;
  close(): void;
}

function createInbox(hub: EventHub | null, abort: AbortSignal): Inbox {
  let rounds: HubRound[] = [];
  let events = 0;
  let overflown = false;
  let wake: (() => void) | null = null;
  const stop = hub?.listen((round) => {
    events += eventsOf(round);
    // One round is taken in any case, or a large one would never be.
    if (events > BUFFERED_EVENTS && rounds.length > 0) {
      overflown = true;
      close();
    } else rounds.push(round);
    wake?.();
  });
  const onAbort = () => wake?.();
  abort.addEventListener('abort', onAbort, { once: true });
  function close(): void {
    rounds = [];
    stop?.();
    abort.removeEventListener('abort', onAbort);
  }
  return {
    get overflown() {
      return overflown;
    },
    take() {
      const round = rounds.shift();
      if (round) events -= eventsOf(round);
      return round;
    },
    wait(timeoutMs) {
      return new Promise((resolve) => {
        const done = (woken: boolean) => {
          clearTimeout(timer);
          wake = null;
          resolve(woken);
        };
        const timer = setTimeout(() => done(false), timeoutMs);
        wake = () => done(true);
        if (abort.aborted || overflown || rounds.length > 0) wake();
      });
    },
    close,
  };
}

/** A cursor's first three parts: which log, and where. */
export async function checkedPosition(
  env: EngineEnvironment,
  parts: { log: string; xid: string; id: string },
): Promise<EventPosition> {
  const { api } = env.pools;
  const position = { xid: parts.xid, id: parts.id };
  // No master has handed out a position beyond the present: it is made up, or this database was set back.
  const isAhead = isBehind(await eventsNow(api), position);
  if (isAhead || parts.log !== (await readLogId(api)) || !(await reachesBack(api, position))) throw expired();
  return position;
}

/** Whether this can be one of the numbers of a position. */
export function isPositionNumber(text: string | undefined): text is string {
  return text !== undefined && /^\d{1,19}$/.test(text) && BigInt(text) < 2n ** 63n;
}

export function invalidCursor(stream: string): Refusal {
  return new Refusal('invalid_argument', 'INVALID_CURSOR', `this is not a cursor of ${stream}`, {
    violations: [{ field: 'cursor', description: `not a cursor of ${stream}` }],
  });
}

function expired(): Refusal {
  return new Refusal(
    'failed_precondition',
    'CURSOR_EXPIRED',
    'history does not reach to this cursor: read the state, then watch from now',
  );
}
