import type { Sql } from '../database/connection.ts';

export interface Vitals {
  postgresVersion: string;
  schemaVersion: number;
  /** Since the last sweep of sessions by any master, ms. */
  sinceSweepMs: number;
  /** Sessions that are alive. */
  workers: number;
}

/** Reads what health is made of. Throws when Postgres does not answer. */
export async function readVitals(sql: Sql): Promise<Vitals> {
  const [row] = await sql.unsafe(
    `/* baton vitals */ select current_setting('server_version') as version, (select max(version) from public.baton_migrations) as schema,
       (select extract(epoch from clock_timestamp() - last_at) * 1000 from baton.sweeps where name = 'sessions')::double precision as since_sweep_ms,
       (select count(*)::integer from baton.sessions where state <> 'closed' and expires_at > clock_timestamp()) as workers`,
    [],
    { prepare: true },
  );
  return {
    postgresVersion: row!.version as string,
    schemaVersion: row!.schema as number,
    sinceSweepMs: row!.since_sweep_ms as number,
    workers: row!.workers as number,
  };
}

export interface TableCounts {
  ready: number;
  waiting: number;
  leases: number;
  sessions: number;
  /** Breakers that are not closed. */
  breakers: number;
}

/** Rows of the small tables, exact up to a cap (counting millions is dear). */
export async function countLive(sql: Sql, cap = 100_000): Promise<TableCounts> {
  const [row] = await sql.unsafe(
    `/* baton count live */ select
       (select count(*)::integer from (select from baton.ready limit $1) x) as ready,
       (select count(*)::integer from (select from baton.waiting limit $1) x) as waiting,
       (select count(*)::integer from (select from baton.leases limit $1) x) as leases,
       (select count(*)::integer from baton.sessions where state <> 'closed' and expires_at > clock_timestamp()) as sessions,
       (select count(*)::integer from baton.breakers where state <> 'closed') as breakers`,
    [cap],
    { prepare: true },
  );
  return row as unknown as TableCounts;
}
