import type postgres from 'postgres';
import { round } from './statistics.ts';

/** What one statement of the product cost between two moments. */
export interface StatementCost {
  name: string;
  calls: number;
  msPerCall: number;
  usPerTask: number;
}

/** Forgets what was counted in this database until now. */
export async function resetStatements(sql: postgres.Sql): Promise<void> {
  await sql`select pg_stat_statements_reset(0, (select oid from pg_database where datname = current_database()), 0)`;
}

/** The dearest statements by execution time, by the name in their leading comment. */
export async function readStatements(sql: postgres.Sql, tasks: number): Promise<StatementCost[]> {
  const rows = await sql<{ name: string; calls: number; ms: number }[]>`
    select coalesce(substring(query from '/\\* baton ([a-z ]+?) \\*/'), left(regexp_replace(query, '\\s+', ' ', 'g'), 60)) as name,
           sum(calls)::integer as calls, sum(total_exec_time)::float8 as ms
    from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database()) and query not like '%pg_stat_statements%'
    group by 1 order by 3 desc limit 12`;
  return rows.map(({ name, calls, ms }) => ({
    name,
    calls,
    msPerCall: round(ms / calls),
    usPerTask: round((ms * 1000) / tasks),
  }));
}
