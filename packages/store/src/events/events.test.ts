import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openSql, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { scene } from '../database/scene.fixture.ts';
import {
  type EventPosition,
  eventsNow,
  eventsSince,
  isBehind,
  markEventsDropped,
  reachesBack,
  readEvents,
  readLogId,
} from './events.ts';

let db: MigratedDatabase;
let sql: Sql;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
});
afterAll(() => db.drop());

/** Transactions of other tests, in other databases of this server, hold readers back, too: until what was written by now can be read. */
async function allVisible(): Promise<void> {
  const [row] = await sql.unsafe('select pg_current_xact_id()::text as xid');
  await vi.waitFor(
    async () => {
      const [now] = await sql.unsafe('select pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8 as passed', [
        row!.xid,
      ]);
      expect(now!.passed).toBe(true);
    },
    { timeout: 25_000, interval: 20 },
  );
}

/** Everything behind a position, in pages of this many rows. */
async function readAll(from: EventPosition, page: number): Promise<string[]> {
  const tasks: string[] = [];
  let at = from;
  for (;;) {
    const rows = await readEvents(sql, at, page);
    if (rows.length === 0) return tasks;
    tasks.push(...rows.flatMap((row) => row.taskIds));
    at = rows.at(-1)!;
  }
}

describe('the event log', () => {
  it('is read in the order of transactions as numbers, whatever the page', async () => {
    // Numbers of transactions long over, of one digit to three: as text their order would be another.
    const xids = [3, 9, 10, 11, 99, 100, 101, 200];
    await sql.unsafe(
      `insert into baton.events (xid, namespace_ids, types, task_ids, run_ids, attempts, worker_ids, at)
       select x::text::xid8, '{1}', '{1}', array[x], '{0}', '{0}', '{0}', '2025-01-01'::timestamptz + x * interval '1 minute'
       from unnest($1::bigint[]) x order by x desc`,
      [`{${xids.join(',')}}`],
    );
    for (const page of [1, 2, 3, 100]) expect(await readAll({ xid: '0', id: '0' }, page)).toEqual(xids.map(String));
    expect(await readAll({ xid: '9', id: '9223372036854775807' }, 2)).toEqual(['10', '11', '99', '100', '101', '200']);
    // A minute early, for what long transactions wrote: readers pass over what is older, by its time.
    const since = await eventsSince(sql, new Date(Date.UTC(2025, 0, 1, 0, 10)));
    expect(await readAll(since, 3)).toEqual(['9', '10', '11', '99', '100', '101', '200']);
    const all = await eventsSince(sql, new Date(0));
    expect(await readAll(all, 100)).toHaveLength(xids.length);
    const future = await eventsSince(sql, new Date(Date.now() + 3_600_000));
    expect(isBehind(await eventsNow(sql), future)).toBe(false);
    await sql.unsafe('delete from baton.events');
  });

  it('is read below the oldest open transaction, so that what lands late is not passed over', async () => {
    const from = await eventsNow(sql);
    const slow = openSql(db.url, { max: 1 });
    const write = (on: Sql, task: number) =>
      on.unsafe(
        `insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids) values ('{1}', '{1}', array[$1::bigint], '{0}', '{0}', '{0}')`,
        [task],
      );
    await slow.unsafe('begin');
    await write(slow, 1);
    await write(sql, 2);
    expect(await readAll(from, 10)).toEqual([]);
    await slow.unsafe('commit');
    await allVisible();
    expect(await readAll(from, 10)).toEqual(['1', '2']);
    await slow.end({ timeout: 5 });
  });

  it('has one row for a batch, with as many of everything as tasks', async () => {
    const from = await eventsNow(sql);
    const stage = scene(sql);
    const lane = await stage.lane('events');
    const session = await stage.session('events');
    const tasks = await stage.submit(lane, 3);
    await stage.complete(await stage.claim(lane, session, 3));
    await allVisible();
    const rows = (await readEvents(sql, from, 100)).filter((row) => row.taskIds[0] !== '0');
    expect(rows.map((row) => [row.types[0], row.taskIds.length])).toEqual([
      [1, 3],
      [3, 3],
      [5, 3],
    ]);
    for (const row of rows) {
      expect([...row.taskIds].sort()).toEqual(tasks);
      const { namespaceIds, types, runIds, attempts, workerIds } = row;
      for (const list of [namespaceIds, types, runIds, attempts, workerIds]) expect(list).toHaveLength(3);
    }
    expect(await readLogId(sql)).toMatch(/^[0-9a-f]{32}$/);
  });

  it('is read in pages of a bounded number of events, a row at least', async () => {
    const from = await eventsNow(sql);
    const stage = scene(sql);
    const lane = await stage.lane('bounded');
    for (const count of [30, 1, 1, 50, 2]) await stage.submit(lane, count);
    await allVisible();
    const sizes = async (maxEvents: number) => {
      const read: number[][] = [];
      for (let at = from; ; ) {
        const rows = await readEvents(sql, at, 100, maxEvents);
        if (rows.length === 0) return read;
        read.push(rows.map((row) => row.types.length));
        at = rows.at(-1)!;
      }
    };
    expect(await sizes(20)).toEqual([[30], [1, 1, 50], [2]]);
    expect(await sizes(1)).toEqual([[30], [1], [1], [50], [2]]);
  });

  it('reaches back to a cursor exactly if nothing behind it was dropped', async () => {
    const own = await migratedDatabase();
    const fresh = await eventsNow(own.sql);
    expect(await reachesBack(own.sql, fresh), 'before the first event of all').toBe(true);
    const week = 7 * 86_400_000;
    const insert = (xid: number, at: Date) =>
      own.sql.unsafe(
        `insert into baton.events (xid, namespace_ids, types, task_ids, run_ids, attempts, worker_ids, at)
         values ($1::text::xid8, '{1}', '{1}', '{1}', '{0}', '{0}', '{0}', $2) returning id`,
        [String(xid), at.toISOString()],
      );
    const partitions = await own.sql.unsafe(
      `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = 'baton.events'::regclass order by c.relname`,
    );
    const [oldest] = partitions.map((row) => row.name as string);
    const now = new Date();
    const later = new Date(now.getTime() + week);
    // Around the boundary the order of transactions is not that of times.
    for (const xid of [101, 105, 120]) await insert(xid, now);
    for (const xid of [110, 130, 140]) await insert(xid, later);
    const at = (xid: number, id = '9223372036854775807') => reachesBack(own.sql, { xid: String(xid), id });
    for (const xid of [1, 100, 105, 120, 140]) expect(await at(xid), `kept: ${xid}`).toBe(true);
    await markEventsDropped(own.sql, oldest!);
    await own.sql.unsafe(`drop table baton."${oldest}"`);
    for (const xid of [1, 100, 105, 110, 119]) expect(await at(xid), `dropped: ${xid}`).toBe(false);
    expect(await at(120, '1'), 'another event of that transaction was dropped').toBe(false);
    for (const xid of [120, 121, 130, 140, 500]) expect(await at(xid), `nothing behind: ${xid}`).toBe(true);
    expect(await eventsSince(own.sql, new Date(0))).toMatchObject({ xid: '120' });
    await own.drop();
  });

  it('notices what was dropped without a word', async () => {
    const own = await migratedDatabase();
    for (let n = 0; n < 50; n++)
      await own.sql.unsafe(
        `insert into baton.events (xid, namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
         values (($1::integer)::text::xid8, '{1}', '{1}', '{1}', '{0}', '{0}', '{0}')`,
        [10 * (n + 1)],
      );
    await own.sql.unsafe("delete from baton.events where xid < '300'");
    expect(await reachesBack(own.sql, { xid: '299', id: '1' })).toBe(false);
    expect(await reachesBack(own.sql, { xid: '300', id: '9223372036854775807' })).toBe(true);
    await own.drop();
  });
});
