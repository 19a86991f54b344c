import { EVENT, notFound } from '@baton/domain';
import {
  type EventPosition,
  endedBefore,
  endedBeforePage,
  eventsNow,
  knownTasks,
  lastEnded,
  readEnded,
  readLogId,
  type TaskRow,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import {
  checkedPosition,
  followLog,
  invalidCursor,
  isPositionNumber,
  SIGN_OF_LIFE_MS,
} from '../events/event-follow.ts';
import type { EventHub } from '../events/event-hub.ts';

export interface EndsRequest {
  namespaceId: number;
  /** Empty: all of the namespace. */
  taskIds: readonly string[];
  /** Begin with those that have ended already. */
  includeCompleted: boolean;
  /** Empty: from now on. */
  cursor: string;
}

export interface EndsPage {
  /** With their outputs, without their inputs. */
  rows: TaskRow[];
  cursor: string;
}

/**
 * Where a stream of ends stands. Everything at or before `position` belongs to the listing, everything behind it to the log, so that
 * each end comes once, whatever happens between. In the listing: the ids up to `listed` are done, `upTo` is where it ends. In the log:
 * of the row just behind `position` the first `done` events are.
 */
interface Place {
  position: EventPosition;
  listing: { listed: string; upTo: string } | null;
  done: number;
}

/** About so many bytes of outputs in a message; one output may be larger. */
const PAGE_BYTES = 256 * 1024;
const LIST_IDS = 1_000;
const READ_IDS = 200;
const ENDS: ReadonlySet<number> = new Set([EVENT.taskSucceeded, EVENT.taskFailed, EVENT.taskCancelled]);

/**
 * Ends of tasks, each exactly once, also over connections that go on from a cursor. With ids the stream ends when all of them have
 * ended. The first page is empty and gives a cursor.
 *
 * @throws Refusal TASK_NOT_FOUND, INVALID_CURSOR, CURSOR_EXPIRED
 */
export async function* watchEnds(
  env: EngineEnvironment,
  hub: EventHub | null,
  request: EndsRequest,
  abort: AbortSignal,
): AsyncGenerator<EndsPage> {
  const { api } = env.pools;
  const { namespaceId } = request;
  const ids = request.taskIds.length > 0 ? [...new Set(request.taskIds)] : null;
  const logId = await readLogId(api);
  const place = request.cursor === '' ? await begin(env, request) : await resume(env, request.cursor);
  const cursor = () => cursorOf(logId, place);
  if (ids && request.cursor === '') {
    const known = await knownTasks(api, namespaceId, ids);
    const missing = ids.find((id) => !known.has(id));
    if (missing !== undefined) throw notFound('task', missing);
  }
  yield { rows: [], cursor: cursor() };

  /** Reads and gives ends in pages of bounded size; `advance` moves the place over each of them. */
  async function* deliver(ended: readonly string[], advance: (taskId: string) => void): AsyncGenerator<EndsPage> {
    for (let at = 0; at < ended.length && !abort.aborted; ) {
      const part = ended.slice(at, at + READ_IDS);
      const rows = await readEnded(api, namespaceId, part, PAGE_BYTES);
      // What is missing at the end of a page comes with the next; what is missing before was dropped with its history.
      const last = rows.at(-1)?.id;
      const taken = last === undefined ? part.length : part.indexOf(last) + 1;
      for (const id of part.slice(0, taken)) advance(id);
      at += taken;
      if (rows.length > 0) yield { rows, cursor: cursor() };
    }
  }

  const pending = ids && new Set(ids);
  if (pending) {
    const before = await endedBefore(api, place.position, namespaceId, ids);
    for (const id of before) pending.delete(id);
    if (place.listing) {
      const { listing } = place;
      const left = before.filter((id) => BigInt(id) > BigInt(listing.listed));
      yield* deliver(left, (id) => {
        listing.listed = id;
      });
    }
  } else {
    while (place.listing && !abort.aborted) {
      const { listing } = place;
      const range = { after: listing.listed, upTo: listing.upTo };
      const page = await endedBeforePage(api, place.position, namespaceId, range, LIST_IDS);
      yield* deliver(page.taskIds, (id) => {
        listing.listed = id;
      });
      if (page.last === null) break;
      listing.listed = page.last;
    }
  }
  if (abort.aborted) return;
  place.listing = null;
  if (pending?.size === 0) return;

  let saidAt = env.now();
  for await (const round of followLog(env, hub, place.position, abort)) {
    // Row by row: a cursor counts what was given within one.
    for (const batch of round?.batches ?? []) {
      const skipped = place.done;
      const ended: string[] = [];
      const ordinals = new Map<string, number>();
      batch.events.forEach(({ type, taskId, namespaceId: of }, i) => {
        if (!ENDS.has(type) || of !== namespaceId || pending?.has(taskId) === false) return;
        pending?.delete(taskId);
        if (i < skipped) return;
        ended.push(taskId);
        ordinals.set(taskId, i + 1);
      });
      for await (const page of deliver(ended, (id) => {
        place.done = ordinals.get(id)!;
      })) {
        saidAt = env.now();
        yield page;
      }
      if (abort.aborted) return;
      place.position = batch.position;
      place.done = 0;
      if (pending?.size === 0) return;
    }
    if (env.now() - saidAt >= SIGN_OF_LIFE_MS) {
      saidAt = env.now();
      yield { rows: [], cursor: cursor() };
    }
  }
}

async function begin(env: EngineEnvironment, request: EndsRequest): Promise<Place> {
  const position = await eventsNow(env.pools.api);
  // Whatever ended before the position is there by now.
  return {
    position,
    listing: request.includeCompleted ? { listed: '0', upTo: await lastEnded(env.pools.api) } : null,
    done: 0,
  };
}

function cursorOf(logId: string, { position, listing, done }: Place): string {
  const where = listing ? `l.${listing.listed}.${listing.upTo}` : `e.${done}`;
  return `${logId}.${position.xid}.${position.id}.${where}`;
}

async function resume(env: EngineEnvironment, cursor: string): Promise<Place> {
  const [log, xid, id, mode, a, b, ...more] = cursor.split('.');
  const isListing = mode === 'l' && isPositionNumber(a) && isPositionNumber(b) && more.length === 0;
  const isLog = mode === 'e' && a !== undefined && /^\d{1,9}$/.test(a) && b === undefined;
  if (!log || !isPositionNumber(xid) || !isPositionNumber(id) || !(isListing || isLog))
    throw invalidCursor('StreamTaskResults');
  return {
    position: await checkedPosition(env, { log, xid, id }),
    listing: isListing ? { listed: a, upTo: b } : null,
    done: isLog ? Number(a) : 0,
  };
}
