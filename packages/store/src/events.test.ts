import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSql, type Sql } from './connection.ts';
import { type EventPosition, eventsNow, eventsSince, readEvents, readLogId } from './events.ts';
import { type MigratedDatabase, migratedDatabase } from './migrated.fixture.ts';
import { scene } from './scene.fixture.ts';

let db: MigratedDatabase;
let sql: Sql;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
});
afterAll(() => db.drop());

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
       select x::text::xid8, '{1}', '{1}', array[x], '{0}', '{0}', '{0}', '2025-01-01'::timestamptz + x * interval '1 s'
       from unnest($1::bigint[]) x order by x desc`,
      [`{${xids.join(',')}}`],
    );
    for (const page of [1, 2, 3, 100]) expect(await readAll({ xid: '0', id: '0' }, page)).toEqual(xids.map(String));
    expect(await readAll({ xid: '9', id: '9223372036854775807' }, 2)).toEqual(['10', '11', '99', '100', '101', '200']);
    const since = await eventsSince(sql, new Date(Date.UTC(2025, 0, 1, 0, 0, 10)));
    expect(await readAll(since, 3)).toEqual(['10', '11', '99', '100', '101', '200']);
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
});
