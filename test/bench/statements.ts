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
  ['guard as (', 'step runs'],
  ['insert into baton.journal as j', 'append journal'],
  ['driver_task_id = run.driver', 'end functions'],
  ['resting as', 'suspend'],
  ['kept_outcome as', 'complete'],
  ['heads as materialized', 'claim'],
  ['driver as (', 'start function runs'],
  ['due.run_id', 'due advances'],
  ['to_ready as', 'submit'],
];

/** The dearest statements by execution time. */
export async function readStatements(sql: postgres.Sql, tasks: number): Promise<StatementCost[]> {
  const rows = await sql<{ query: string; calls: number; ms: number }[]>`
    select query, calls::integer as calls, total_exec_time::float8 as ms from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database()) and query not like '%pg_stat_statements%'
    order by total_exec_time desc limit 20`;
  return rows.map(({ query, calls, ms }) => ({
    name: NAMES.find(([word]) => query.includes(word))?.[1] ?? query.replaceAll(/\s+/g, ' ').slice(0, 90),
    calls,
    msPerCall: round(ms / calls),
    usPerTask: round((ms * 1000) / tasks),
  }));
}

/** All claims since the counts were forgotten. */
export interface ClaimCount {
  calls: number;
  ms: number;
  longestMs: number;
}

export async function readClaims(sql: postgres.Sql): Promise<ClaimCount> {
  const [word] = NAMES.find(([, name]) => name === 'claim')!;
  const [row] = await sql<ClaimCount[]>`
    select coalesce(sum(calls), 0)::integer as calls, coalesce(sum(total_exec_time), 0)::float8 as ms,
           coalesce(max(max_exec_time), 0)::float8 as "longestMs" from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database()) and query like ${`%${word}%`}
      and query not like '%pg_stat_statements%'`;
  return { ...row! };
}

/** Statements of this database until now, with `hasStatements`. */
export async function readCalls(sql: postgres.Sql): Promise<number> {
  const [row] = await sql<{ calls: number }[]>`
    select coalesce(sum(calls), 0)::float8 as calls from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database())
      and query not like '%pg_stat_statements%' and query not like '%pg_stat_database%' and query not like '%pg_stat_force%'`;
  return row!.calls;
}

/** Transactions of this database until now, those of the statistics of other connections included once these have reported. */
export async function readCommits(sql: postgres.Sql): Promise<number> {
  await sql`select pg_stat_force_next_flush()`;
  const [row] = await sql<{ commits: number }[]>`
    select xact_commit::float8 as commits from pg_stat_database where datname = current_database()`;
  return row!.commits;
}
