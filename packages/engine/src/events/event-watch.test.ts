import { createIdMaker, Refusal } from '@baton/domain';
import { eventsNow, openPools, openSql, type Pools, type Sql } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type EngineEnvironment, silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { followLog } from './event-follow.ts';
import { createEventHub, type EventHub, type HubRound } from './event-hub.ts';
import { watchEvents } from './event-watch.ts';

let url: string;
let pools: Pools;
let env: EngineEnvironment;
let hub: EventHub;
let drop: () => Promise<void>;

beforeAll(async () => {
  const database = await testDatabase({ migrated: true });
  ({ url } = database);
  pools = openPools(url);
  env = {
    pools,
    ids: createIdMaker(9, Date.now),
    settings: DEFAULT_SETTINGS,
    now: Date.now,
    random: Math.random,
    log: silentLog,
  };
  hub = createEventHub(env);
  drop = async () => {
    hub.close();
    await pools.end();
    await database.drop();
  };
});
afterAll(() => drop());

const ALL = [{ name: '', types: new Set<number>(), taskIds: new Set<string>(), runIds: new Set<string>() }];

let nextTask = 1;
/** One row of so many events, of tasks that nobody else has. */
async function write(sql: Sql, count: number): Promise<void> {
  const ids = Array.from({ length: count }, () => nextTask++);
  const same = (value: number) => `{${ids.map(() => value).join(',')}}`;
  await sql.unsafe(
    `insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids) values ($1, $2, $3, $4, $5, $6)`,
    [same(1), same(1), `{${ids.join(',')}}`, same(0), same(0), same(0)],
  );
}

/** Watches until it has seen so many events; `pause` after each batch. */
async function watchFor(
  count: () => number,
  from: { cursor?: string; since?: Date },
  pause: () => Promise<unknown> | undefined = () => undefined,
): Promise<{ seen: string[]; cursor: string }> {
  const abort = new AbortController();
  const seen: string[] = [];
  let cursor = from.cursor ?? '';
  for await (const batch of watchEvents(env, hub, 1, ALL, from, abort.signal)) {
    cursor = batch.cursor;
    seen.push(...batch.events.map(({ event }) => event.taskId));
    if (seen.length >= count()) break;
    await pause();
  }
  return { seen, cursor };
}

async function now(): Promise<string> {
  return (await watchFor(() => 0, {})).cursor;
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('watching the event log', () => {
  it('loses and repeats nothing, in one order for all, while transactions of any length commit in any order', {
    timeout: 60_000,
  }, async () => {
    const cursor = await now();
    const first = nextTask;
    let done = false;
    const writers = Promise.all(
      Array.from({ length: 5 }, async () => {
        const sql = openSql(url, { max: 1 });
        for (let n = 0; n < 25; n++) {
          await sql.unsafe('begin');
          for (let row = 0; row <= n % 3; row++) {
            await write(sql, 1 + Math.floor(Math.random() * 300));
            await wait(Math.random() * 15);
          }
          await sql.unsafe(n % 7 === 3 ? 'rollback' : 'commit');
          hub.poke();
        }
        await sql.end();
      }),
    ).then(() => {
      done = true;
    });
    const total = async () => {
      const [row] = await pools.api.unsafe(
        'select coalesce(sum(cardinality(task_ids)), 0)::integer as n from baton.events where $1 <= all(task_ids)',
        [first],
      );
      return row!.n as number;
    };
    let known = Number.POSITIVE_INFINITY;
    const live = watchFor(() => known, { cursor });
    // So slow that its buffer overflows, and it goes back to Postgres.
    const slow = watchFor(
      () => known,
      { cursor },
      () => (done ? undefined : wait(150)),
    );
    const hopping = (async () => {
      const seen: string[] = [];
      for (let at = cursor; seen.length < known; ) {
        const part = await watchFor(() => Math.min(known - seen.length, 1 + Math.floor(Math.random() * 2_000)), {
          cursor: at,
        });
        seen.push(...part.seen);
        at = part.cursor;
      }
      return { seen };
    })();
    await writers;
    const written = await total();
    expect(written).toBeGreaterThan(10_000);
    // What they wait for is counted only now: one more row makes all of them look. None may look before it counts, and end without it.
    await write(pools.api, 1);
    known = written + 1;
    hub.poke();
    const [a, b, c] = await Promise.all([live, slow, hopping]);
    expect(new Set(a.seen).size).toBe(known);
    expect(a.seen).toHaveLength(known);
    expect(b.seen).toEqual(a.seen);
    expect(c.seen).toEqual(a.seen);
    expect(hub.listeners).toBe(0);
  });

  it('begins at a time: everything since then, nothing from before', async () => {
    await write(pools.api, 3);
    // Times of events are compared in whole milliseconds.
    await wait(5);
    const [row] = await pools.api.unsafe('select clock_timestamp() as at');
    const since = row!.at as Date;
    await wait(5);
    const first = nextTask;
    for (let n = 0; n < 4; n++) await write(pools.api, 2);
    const { seen } = await watchFor(() => 8, { since });
    expect(seen).toEqual(Array.from({ length: 8 }, (_, i) => String(first + i)));
  });

  it('says where it stands also when nothing that happens matches', async () => {
    const abort = new AbortController();
    let clock = Date.now();
    const slow = { ...env, now: () => (clock += 6_000) };
    const filters = [{ ...ALL[0]!, taskIds: new Set(['none']) }];
    const cursors: string[] = [];
    const writing = (async () => {
      while (!abort.signal.aborted) {
        await write(pools.api, 1);
        hub.poke();
        await wait(5);
      }
    })();
    for await (const batch of watchEvents(slow, hub, 1, filters, {}, abort.signal)) {
      expect(batch.events).toEqual([]);
      cursors.push(batch.cursor);
      if (cursors.length === 4) break;
    }
    abort.abort();
    await writing;
    expect(new Set(cursors).size).toBe(4);
  });

  it('tells a reader that stood still while history was dropped', async () => {
    const abort = new AbortController();
    const watching = watchEvents(env, hub, 1, ALL, {}, abort.signal);
    await watching.next();
    for (let n = 0; n < 3; n++) await write(pools.api, 1_000);
    hub.poke();
    expect((await watching.next()).value!.events).toHaveLength(1_000);
    // Behind it, and it does not look.
    for (let n = 0; n < 12; n++) await write(pools.api, 1_000);
    await wait(700);
    await pools.api.unsafe(
      `update baton.event_log set (dropped_xid, dropped_id) = (select xid, id from baton.events order by xid desc, id desc limit 1)`,
    );
    await pools.api.unsafe('delete from baton.events');
    const rest = (async () => {
      for (;;) await watching.next();
    })();
    await expect(rest).rejects.toSatisfy((error) => error instanceof Refusal && error.reason === 'CURSOR_EXPIRED');
    expect(hub.listeners).toBe(0);
  });

  it('leaves nothing behind when it is given up in any place', async () => {
    for (let n = 0; n < 20; n++) {
      const abort = new AbortController();
      const watching = watchEvents(env, hub, 1, ALL, {}, abort.signal);
      for (let step = 0; step < n % 3; step++) {
        await write(pools.api, 1);
        hub.poke();
        await watching.next();
      }
      if (n % 2 === 0) await watching.return(undefined);
      else {
        const next = watching.next();
        abort.abort();
        await next;
        await watching.return(undefined);
      }
    }
    expect(hub.listeners).toBe(0);
  });
});

it('what is written while the tailer looks for its beginning is not lost', async () => {
  const position = await eventsNow(pools.api);
  const looks = Promise.withResolvers<void>();
  const slow = {
    // Only the tailer asks for the present here; its answer waits.
    unsafe: async (...call: Parameters<Sql['unsafe']>) => {
      if (call[0].startsWith('select (pg_snapshot_xmin')) await looks.promise;
      return pools.api.unsafe(...call);
    },
  } as unknown as Sql;
  const slowEnv = { ...env, pools: { ...pools, api: slow } };
  const slowHub = createEventHub(slowEnv);
  const abort = new AbortController();
  const follower = followLog(slowEnv, slowHub, position, abort.signal);
  const first = follower.next();
  // Time for the first read, which must not be taken for all that there was.
  await new Promise((resolve) => setTimeout(resolve, 100));
  await write(pools.api, 3);
  const written = String(nextTask - 1);
  looks.resolve();
  // Of one round or of several: a transaction of another database of the server may hide the last of them for a moment.
  const seen: string[] = [];
  for (let { value } = await first; ; { value } = await follower.next()) {
    seen.push(...(value as HubRound).batches.flatMap(({ events }) => events.map((event) => event.taskId)));
    if (seen.includes(written)) break;
  }
  // And it may have kept the present back, behind what the test before wrote last.
  expect(seen.slice(-3)).toEqual([nextTask - 3, nextTask - 2, nextTask - 1].map(String));
  abort.abort();
  await follower.return(undefined);
  slowHub.close();
});

it('gives a round that all follow live as one object to those who want the same of it, and to others their own', async () => {
  const abort = new AbortController();
  const lists = { types: new Set<number>(), taskIds: new Set<string>(), runIds: new Set<string>() };
  const follow = (name: string) => {
    const byCursor = new Map<string, unknown>();
    const done = (async () => {
      for await (const batch of watchEvents(env, hub, 1, [{ ...lists, name }], {}, abort.signal))
        if (batch.events.length > 0) byCursor.set(batch.cursor, batch);
    })();
    return { byCursor, done };
  };
  const [one, two, other] = [follow('a'), follow('a'), follow('b')];
  const both = ({ byCursor }: typeof one) => [...one.byCursor].filter(([cursor]) => byCursor.has(cursor));
  // As they begin each reads from Postgres by itself.
  await vi.waitFor(
    async () => {
      await write(pools.api, 2);
      hub.poke();
      expect(both(two).some(([cursor, batch]) => two.byCursor.get(cursor) === batch)).toBe(true);
      expect(both(other).length).toBeGreaterThan(0);
    },
    { timeout: 20_000, interval: 50 },
  );
  for (const [cursor, batch] of both(two)) expect(two.byCursor.get(cursor)).toEqual(batch);
  for (const [cursor, batch] of both(other)) expect(other.byCursor.get(cursor)).not.toEqual(batch);
  abort.abort();
  await Promise.all([one.done, two.done, other.done]);
});
