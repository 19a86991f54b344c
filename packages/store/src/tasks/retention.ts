import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';
import { markEventsDropped } from '../events/events.ts';

/** A partition of history. */
export interface Partition {
  /** The table that it is a part of. */
  parent: string;
  name: string;
  /** The smallest id that is above it; null: of events, which have no ids of tasks. */
  upperId: string | null;
  /** It holds what is from before this time. */
  until: Date;
  /** With its indexes. */
  bytes: number;
  /** As last estimated; 0: never. */
  rows: number;
  /** For what was kept of partitions that are gone. */
  isOld: boolean;
  /** Another one each time that what is kept is put together anew. */
  oid: number;
}

/** Where history ends now. */
export interface Cutoff {
  at: Date;
  id: string;
}

/** Ids begin with 2025: of a time long before, the arithmetic would turn over, and all of history would be below it. */
export async function readCutoff(sql: Sql, historyDays: number): Promise<Cutoff> {
  const [row] = await sql.unsafe(
    `/* baton history cutoff */ select at, baton.id_at(greatest(at, timestamptz '2025-01-01 00:00Z')) as id from (select clock_timestamp() - $1::double precision * interval '1 day' as at) c`,
    [historyDays],
    { prepare: true },
  );
  return { at: row!.at as Date, id: row!.id as string };
}

/** All partitions, the oldest first. */
export async function listPartitions(sql: Sql): Promise<Partition[]> {
  const rows = await sql.unsafe(
    `/* baton list partitions */
     select name, oid, parent, bytes, rows, upper_id, coalesce(baton.id_time(upper_id), until::timestamptz) as until from (
       select c.relname as name, c.oid::integer as oid, p.relname as parent, pg_total_relation_size(c.oid)::double precision as bytes, greatest(c.reltuples, 0) as rows,
              case when p.relname <> 'events' then substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \\(''(-?\\d+)''\\)')::bigint end as upper_id,
              case when p.relname = 'events' then substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \\(''([^'']+)''\\)') end as until
       from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
       where p.relnamespace = 'baton'::regnamespace and p.relkind = 'p'
     ) x
     -- One that is being dropped at this moment has no bounds any more.
     where upper_id is not null or until is not null order by until, parent`,
  );
  return rows.map((r) => ({
    parent: r.parent as string,
    name: r.name as string,
    upperId: r.upper_id as string | null,
    until: r.until as Date,
    bytes: r.bytes as number,
    rows: Number(r.rows),
    oid: r.oid as number,
    isOld: (r.name as string) === `${r.parent}_old`,
  }));
}

/**
 * Tasks below an id that live, or belong to a run that is there: a run is kept with its nodes. Found from the small tables.
 *
 * @returns at most `limit`
 */
export async function livingBelow(sql: Sql, upperId: string, limit: number): Promise<string[]> {
  const rows = await sql.unsafe(
    `/* baton living below */
     select task_id from (
       select task_id from baton.ready where task_id < $1
       union select task_id from baton.waiting where task_id < $1
       union select task_id from baton.leases where task_id < $1
       union select n.task_id from baton.runs r join baton.run_nodes n on n.run_id = r.id where r.id < $1 and n.task_id < $1
       union select i.task_id from baton.runs r join baton.run_items i on i.run_id = r.id where r.id < $1 and i.task_id < $1
       -- Results that younger runs have, or may have, from it.
       union select n.task_id from baton.run_nodes n where n.cached and n.task_id < $1
       union select i.task_id from baton.run_items i where i.cached and i.task_id < $1
       union select c.task_id from baton.result_cache c where c.task_id < $1 and c.expires_at > clock_timestamp()
     ) l limit $2`,
    [upperId, limit],
    { prepare: true },
  );
  return rows.map((r) => r.task_id as string);
}

/** So many pages are looked through by one statement: 160 MB. */
const SCAN_PAGES = 20_000;

/**
 * Tasks of a partition of outcomes that ended after the cutoff: they began long ago, and their history counts from their end. Looks
 * through the partition page by page, in short statements. @returns at most about `limit`
 */
export async function endedSince(sql: Sql, partition: string, cutoff: Date, limit: number): Promise<string[]> {
  const name = `baton."${partition.replaceAll('"', '""')}"`;
  const [size] = await sql.unsafe(
    `select (pg_relation_size('${name}') / current_setting('block_size')::integer)::integer as pages`,
  );
  const found: string[] = [];
  for (let page = 0; page < (size!.pages as number) && found.length < limit; page += SCAN_PAGES) {
    const rows = await sql.unsafe(
      `/* baton ended since */ select task_id from ${name}
       where ctid >= '(${page},0)'::tid and ctid < '(${page + SCAN_PAGES},0)'::tid and ended_at >= $1::timestamptz limit $2`,
      [cutoff.toISOString(), limit - found.length],
    );
    for (const row of rows) found.push(row.task_id as string);
  }
  return found;
}

/**
 * Drops partitions of the same time in one step. What `kept` and the living tasks have in them goes to the partition for all that is
 * older. Nobody waits for this longer than `lockTimeoutMs`, for each of the tables, and for what the step itself takes.
 *
 * @returns busy: another master is at it; gone: it was
 * @throws 55P03 where the tables were in use for longer than the lock timeout
 */
export async function retirePartitions(
  sql: Sql,
  partitions: readonly Partition[],
  kept: readonly string[],
  lockTimeoutMs: number,
): Promise<'dropped' | 'busy' | 'gone'> {
  for (const partition of partitions) if (partition.parent === 'events') await markEventsDropped(sql, partition.name);
  const [row] = await sql.unsafe(
    '/* baton retire partitions */ select baton.retire_partitions($1::text[], $2::text[], $3, $4::bigint[], $5) as done',
    [
      texts(partitions.map((p) => p.parent)),
      texts(partitions.map((p) => p.name)),
      partitions[0]!.upperId,
      numbers(kept),
      lockTimeoutMs,
    ],
  );
  return row!.done as 'dropped' | 'busy' | 'gone';
}

/** Nodes of runs that one statement deletes, about. */
const RUN_NODES = 10_000;

/** Forgets runs that ended before the cutoff, with their nodes; some of them. @returns how many */
export async function dropOldRuns(sql: Sql, cutoff: Cutoff): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop old runs */
     with old as materialized (
       select r.id, r.nodes_total + r.items_total as nodes_total from baton.runs r
       where r.id < $1 and r.state in ('succeeded', 'failed', 'cancelled') and r.ended_at < $2::timestamptz
         and not exists (select from baton.advances a where a.run_id = r.id)
       order by r.id limit 500 for update of r skip locked
     ), chosen as materialized (
       select id from (select id, sum(nodes_total) over (order by id) - nodes_total as before from old) o where before < ${RUN_NODES}
     ), items as (
       delete from baton.run_items i using chosen where i.run_id = chosen.id
     )
     delete from baton.runs r using chosen where r.id = chosen.id returning 1`,
    [cutoff.id, cutoff.at.toISOString()],
    { prepare: true },
  );
  return rows.length;
}

export async function countOldRuns(sql: Sql, cutoff: Cutoff): Promise<number> {
  const [row] = await sql.unsafe(
    `select count(*)::integer as n from baton.runs r
     where r.id < $1 and r.state in ('succeeded', 'failed', 'cancelled') and r.ended_at < $2::timestamptz`,
    [cutoff.id, cutoff.at.toISOString()],
    { prepare: true },
  );
  return row!.n as number;
}

const CHUNK = 5_000;

/** Forgets steps of breakers from before the cutoff; some of them. @returns how many */
export async function dropBreakerChanges(sql: Sql, cutoff: Cutoff): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop breaker changes */ delete from baton.breaker_changes
     where id = any(array(select id from baton.breaker_changes where at < $1::timestamptz order by id limit ${CHUNK})) returning 1`,
    [cutoff.at.toISOString()],
    { prepare: true },
  );
  return rows.length;
}

/** Forgets the counters of tasks that are gone; some of them. @returns how many */
export async function dropCounters(sql: Sql, cutoff: Cutoff): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop counters */ delete from baton.checkpoint_counters where task_id = any(array(
       select c.task_id from baton.checkpoint_counters c
       where c.task_id < $1 and not exists (select from baton.tasks t where t.id = c.task_id) order by c.task_id limit ${CHUNK})) returning 1`,
    [cutoff.id],
    { prepare: true },
  );
  return rows.length;
}

/** Takes a periodic duty, if it was done last before this time or never. Of any number of masters one gets it. */
export async function takeDuty(sql: Sql, name: string, everyMs: number): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton take duty */ update baton.sweeps set last_at = clock_timestamp()
     where name = $1 and last_at < clock_timestamp() - $2::double precision * interval '1 ms' returning 1`,
    [name, everyMs],
    { prepare: true },
  );
  return rows.length > 0;
}

/** A duty that could not be done whole is due again after this time. */
export async function repeatDuty(sql: Sql, name: string, everyMs: number, afterMs: number): Promise<void> {
  await sql.unsafe(
    `/* baton repeat duty */ update baton.sweeps set last_at = clock_timestamp() - $2::double precision * interval '1 ms' where name = $1`,
    [name, everyMs - afterMs],
    { prepare: true },
  );
}
