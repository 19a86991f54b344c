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

/** pg_stat_statements drops leading comments, and with them the names: these words stand in one statement each. */
const NAMES: readonly (readonly [word: string, name: string])[] = [
  ['attempt_state, next', 'settle'],
  ['kept_outcome as', 'complete'],
  ['heads as materialized', 'claim'],
  ['to_ready as', 'submit'],
];

/** The dearest statements by execution time. */
export async function readStatements(sql: postgres.Sql, tasks: number): Promise<StatementCost[]> {
  const rows = await sql<{ query: string; calls: number; ms: number }[]>`
    select query, calls::integer as calls, total_exec_time::float8 as ms from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database()) and query not like '%pg_stat_statements%'
    order by total_exec_time desc limit 10`;
  return rows.map(({ query, calls, ms }) => ({
    name: NAMES.find(([word]) => query.includes(word))?.[1] ?? query.replaceAll(/\s+/g, ' ').slice(0, 70),
    calls,
    msPerCall: round(ms / calls),
    usPerTask: round((ms * 1000) / tasks),
  }));
}
