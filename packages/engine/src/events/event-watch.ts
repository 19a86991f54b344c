import { eventsNow, eventsSince, readLogId } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { checkedPosition, followLog, invalidCursor, isPositionNumber, SIGN_OF_LIFE_MS } from './event-follow.ts';
import type { EventHub, HubEvent, HubRound } from './event-hub.ts';

export interface EventFilter {
  name: string;
  /** Empty: all. */
  types: ReadonlySet<number>;
  taskIds: ReadonlySet<string>;
  runIds: ReadonlySet<string>;
}

export interface WatchedEvent {
  event: HubEvent;
  worker: string;
  /** Names of those that it matches. */
  subscriptions: readonly string[];
}

/** Maybe the same object for several watchers. */
export interface WatchedBatch {
  readonly events: readonly WatchedEvent[];
  readonly cursor: string;
}

/** What is longer names many tasks or runs, and hardly twice the same. */
const SHARED_CHARACTERS = 1_000;

/**
 * The event log from a cursor or a time on, without loss or repetition, as far as it concerns one namespace and some subscriptions.
 * The first batch is empty and says from where the stream goes on; so do later ones when nothing that matches came for a while,
 * however much else did.
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
    ? await resume(env, from.cursor)
    : from.since
      ? await eventsSince(api, from.since)
      : await eventsNow(api);
  // The position before a time may stand a little too early.
  const since = from.cursor ? undefined : from.since;

  const all = filters.map((f) => f.name);
  const select = async (round: HubRound): Promise<WatchedBatch> => {
    const selected: WatchedEvent[] = [];
    for (const event of round.batches.flatMap((batch) => batch.events)) {
      if (event.namespaceId !== namespaceId || (since && event.at < since)) continue;
      const matching = filters.filter((f) => matches(f, event));
      if (matching.length === 0) continue;
      // Mostly all of them, for which one list will do.
      const subscriptions = matching.length === filters.length ? all : matching.map((f) => f.name);
      selected.push({ event, worker: event.workerId === 0 ? '' : await hub.workerName(event.workerId), subscriptions });
    }
    return { events: selected, cursor: cursor() };
  };
  const cursor = () => `${logId}.${position.xid}.${position.id}`;
  // Those who want the same of a round are given the same object, which one of them has made.
  const wanted = JSON.stringify([
    namespaceId,
    since?.getTime(),
    filters.map((f) => [f.name, [...f.types], [...f.taskIds], [...f.runIds]]),
  ]);
  const watched = (round: HubRound): Promise<WatchedBatch> => {
    if (wanted.length > SHARED_CHARACTERS) return select(round);
    const made = (round.made.get(wanted) as Promise<WatchedBatch> | undefined) ?? select(round);
    round.made.set(wanted, made);
    return made;
  };

  let saidAt = env.now();
  yield { events: [], cursor: cursor() };
  for await (const round of followLog(env, hub, position, abort)) {
    let batch: WatchedBatch = { events: [], cursor: cursor() };
    if (round) {
      ({ position } = round.batches.at(-1)!);
      batch = await watched(round);
    }
    if (batch.events.length === 0 && round && env.now() - saidAt < SIGN_OF_LIFE_MS) continue;
    saidAt = env.now();
    yield batch;
  }
}

async function resume(env: EngineEnvironment, cursor: string) {
  const [log, xid, id, ...more] = cursor.split('.');
  if (!log || !isPositionNumber(xid) || !isPositionNumber(id) || more.length > 0) throw invalidCursor('Watch');
  return checkedPosition(env, { log, xid, id });
}

function matches(filter: EventFilter, event: HubEvent): boolean {
  return (
    (filter.types.size === 0 || filter.types.has(event.type)) &&
    (filter.taskIds.size === 0 || filter.taskIds.has(event.taskId)) &&
    (filter.runIds.size === 0 || filter.runIds.has(event.runId))
  );
}
