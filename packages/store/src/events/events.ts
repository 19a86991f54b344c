import type { Sql } from '../database/connection.ts';

/** A place in the event log: behind all events of rows up to and including (xid, id). */
export interface EventPosition {
  xid: string;
  id: string;
}

/** Whether one position comes before another. */
export function isBehind(a: EventPosition, b: EventPosition): boolean {
  const x = BigInt(a.xid) - BigInt(b.xid);
  return x < 0n || (x === 0n && BigInt(a.id) < BigInt(b.id));
}

export interface EventRow extends EventPosition {
  at: Date;
  namespaceIds: number[];
  types: number[];
  taskIds: string[];
  runIds: string[];
  attempts: number[];
  workerIds: number[];
}

export async function readLogId(sql: Sql): Promise<string> {
  const [row] = await sql.unsafe('select log_id from baton.event_log');
  return row!.log_id as string;
}

/**
 * Event rows behind a position, in their one order: at most `limit`, and from the first on as many as have about `maxEvents` events
 * together, at least one. Readers stop below the oldest open transaction: commits land out of order, and what is below can no longer
 * change. (The order names the table's column: a bare `xid` would be the text that is selected, in the order of text, and sorted
 * from all that is behind the cursor: 50 ms over 20 000 rows against 0.3 by the index.)
 */
export async function readEvents(
  sql: Sql,
  after: EventPosition,
  limit: number,
  maxEvents = 1_000_000,
): Promise<EventRow[]> {
  const rows = await sql.unsafe(
    `/* baton read events */
     select xid::text as xid, id, at, array_to_json(namespace_ids) as n, array_to_json(types) as t, array_to_json(task_ids::text[]) as k,
            array_to_json(run_ids::text[]) as r, array_to_json(attempts) as a, array_to_json(worker_ids) as w
     from (
       select e.*, sum(cardinality(e.types)) over (order by e.xid, e.id) - cardinality(e.types) as before from (
         select * from baton.events e
         where (e.xid, e.id) > ($1::text::xid8, $2::bigint) and e.xid < (select pg_snapshot_xmin(pg_current_snapshot()))
         order by e.xid, e.id limit $3
       ) e
     ) e where before < $4 order by e.xid, e.id`,
    [after.xid, after.id, limit, maxEvents],
    { prepare: true },
  );
  return rows.map((r) => ({
    xid: r.xid as string,
    id: r.id as string,
    at: r.at as Date,
    namespaceIds: r.n as number[],
    types: r.t as number[],
    taskIds: r.k as string[],
    runIds: r.r as string[],
    attempts: r.a as number[],
    workerIds: r.w as number[],
  }));
}

const LAST_ID = '9223372036854775807';

/** The position from which everything is still to come: just below the oldest open transaction. */
export async function eventsNow(sql: Sql): Promise<EventPosition> {
  const [row] = await sql.unsafe(
    'select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)::text as xid',
    [],
    { prepare: true },
  );
  return { xid: row!.xid as string, id: LAST_ID };
}

/** No transaction that writes events lasts longer: statements are cancelled after half of it. */
const LONGEST_WRITE_MS = 60_000;

/**
 * A position before every event at or after a time, and not long before: what comes between is for the reader to pass over, by its
 * time. Events are not in the order of their times. But a transaction that got its number after a row was written has a higher one;
 * so the last row that is older than the time by the longest transaction stands before all that is wanted. One look by the primary
 * key: 2 ms over 500 000 rows on a busy machine; to look for the first event by transaction walked them, 300 ms.
 */
export async function eventsSince(sql: Sql, since: Date): Promise<EventPosition> {
  const now = await eventsNow(sql);
  const [row] = await sql.unsafe(
    `/* baton events since */ select xid::text as xid from baton.events e
     where e.at < $1::timestamptz - interval '${LONGEST_WRITE_MS} ms' order by e.at desc, e.id desc limit 1`,
    [since.toISOString()],
    { prepare: true },
  );
  // From the beginning of all that is kept.
  if (!row) return (await lastDropped(sql)) ?? { xid: '0', id: '0' };
  const xid = row.xid as string;
  return BigInt(xid) < BigInt(now.xid) ? { xid, id: LAST_ID } : now;
}

const FIRST_IDS = 20;

/**
 * Whether nothing behind a position was dropped. Who drops history says up to where, see `markEventsDropped`. What was dropped
 * without a word is noticed as long as nothing was dropped with one: then something at or before the position is still there,
 * or one of the history's first events is. (The very first may not be committed yet, or never.)
 */
export async function reachesBack(sql: Sql, position: EventPosition): Promise<boolean> {
  const [row] = await sql.unsafe(
    `/* baton reaches back */
     select case when l.dropped_xid is not null then (l.dropped_xid, l.dropped_id) <= ($1::text::xid8, $2::bigint)
       else exists (select from baton.events e where (e.xid, e.id) <= ($1::text::xid8, $2::bigint))
         or not exists (select from baton.events)
         or exists (select from (select id from baton.events order by at, id limit 100) f where f.id <= ${FIRST_IDS}) end as ok
     from baton.event_log l`,
    [position.xid, position.id],
    { prepare: true },
  );
  return row!.ok as boolean;
}

/** The last event that was dropped; null: none was. */
export async function lastDropped(sql: Sql): Promise<EventPosition | null> {
  const [row] = await sql.unsafe(
    '/* baton last dropped */ select dropped_xid::text as xid, dropped_id as id from baton.event_log',
    [],
    { prepare: true },
  );
  return row?.xid ? { xid: row.xid as string, id: row.id as string } : null;
}

/**
 * Says, before a partition of `events` is dropped, up to where history goes with it: cursors before that are refused from then on.
 *
 * @param partition its name, without the schema
 */
export async function markEventsDropped(sql: Sql, partition: string): Promise<void> {
  await sql.unsafe(
    `/* baton mark events dropped */ update baton.event_log l set dropped_xid = d.xid, dropped_id = d.id
     from (select xid, id from baton.${quoted(partition)} order by xid desc, id desc limit 1) d
     where l.dropped_xid is null or (l.dropped_xid, l.dropped_id) < (d.xid, d.id)`,
  );
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Names of workers, for showing events. */
export async function workerNames(sql: Sql): Promise<Map<number, string>> {
  const rows = await sql.unsafe('select id, name from baton.workers');
  return new Map(rows.map((r) => [r.id as number, r.name as string]));
}
