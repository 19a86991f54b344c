import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { connect, type GrpcClient, inLanes, submitBulk } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { StalledError, whenSucceeded } from './drain.ts';
import { type History, verifyHistory } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import { type ClaimCount, readClaims, resetStatements } from './statements.ts';
import { type Percentiles, percentiles } from './statistics.ts';

/** Tasks come as fast as they go, with and without a snapshot that keeps every dead row where it is. */
export interface ChurnRun {
  /** A transaction of REPEATABLE READ that has read, from before the first task until after the last. */
  snapshot: 'none' | 'held';
  slots: number;
  /** That were measured; as many more as are kept waiting come behind, so that the last are no easier than the others. */
  tasks: number;
  ahead: number;
  tasksPerSecond: number;
  /** Of each tenth of the tasks, in the order of their ends, by Postgres's clock. */
  tenths: Tenth[];
  /** By pg_stat_statements, where Postgres has it. */
  claim: ClaimTimes | null;
  cpu: CpuShare;
  /** When all have ended, the snapshot still held. */
  tables: TableState[];
  history: Omit<History, 'seconds'>;
}

export interface Tenth {
  /** Null where all of them ended in one moment, as some do where a tenth is not many. */
  tasksPerSecond: number | null;
  /** Mean of the claims of that time, and what they cost for each task that ended in it; null where there is no pg_stat_statements. */
  claimMs: number | null;
  claimUsPerTask: number | null;
}

export interface ClaimTimes {
  calls: number;
  /** Means of the claims of short windows, ms: pg_stat_statements knows no percentiles of calls. */
  windowMs: Percentiles;
  windowLengthMs: number;
  /** Of all calls. */
  longestMs: number;
}

export interface TableState {
  table: string;
  /** As Postgres counts them. */
  deadRows: number;
  tableMb: number;
  indexesMb: number;
}

const AHEAD = 20_000;
const CALL = 1_000;
const LANES = 4;
const WINDOW_MS = 100;
const LOOK_MS = 10;
const STALL_MS = 30_000;

interface Sample {
  done: number;
  claims: ClaimCount;
}

/** One worker takes what a submitter adds, with so many always waiting. */
export async function measureChurn(
  server: BenchServer,
  options: BenchOptions,
  slots: number,
  snapshot: ChurnRun['snapshot'],
): Promise<ChurnRun> {
  const { tasks } = options;
  await using product = await startProduct(server, options);
  const { sql, url } = product.database;
  const client = connect(product.url);
  const ahead = Math.min(AHEAD, Math.ceil(tasks / 5));
  const all = tasks + ahead;
  const call = Math.min(CALL, Math.ceil(ahead / 4));
  const holder = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
  try {
    if (snapshot === 'held') await hold(holder);
    let sent = 0;
    const submit = (until: number) =>
      inLanes(
        LANES,
        () => sent < until,
        () => {
          const count = Math.min(until - sent, call);
          sent += count;
          return submitBulk(client, count);
        },
      );
    await submit(ahead);
    if (server.hasStatements) await resetStatements(sql);
    await product.addWorkers(1, slots);
    const from = product.readCpu();
    const samples: Sample[] = [];
    const sampling = server.hasStatements ? sample(client, sql, tasks, samples) : undefined;
    sampling?.catch(() => {});
    for (let done = 0, changedAt = performance.now(); done < tasks; await sleep(LOOK_MS)) {
      const now = await succeeded(client);
      if (now > done) changedAt = performance.now();
      else if (performance.now() - changedAt > STALL_MS)
        throw new StalledError(`${now} of ${tasks} tasks, and none for ${STALL_MS} ms\n${product.logs()}`);
      done = now;
      // Whole calls, as of one who has that much to do.
      const until = Math.min(all, done + ahead);
      if (until - sent >= call || until === all) await submit(until);
    }
    const cpu = cpuShare(from, product.readCpu(), tasks);
    await sampling;
    await whenSucceeded(client, all, product.logs);
    const { seconds: _, ...history } = await verifyHistory(sql, all);
    if (snapshot === 'held') await stillHeld(holder);
    const speeds = await readSpeeds(sql, tasks);
    return {
      snapshot,
      slots,
      tasks,
      ahead,
      tasksPerSecond: speeds.whole,
      tenths: speeds.tenths.map((tasksPerSecond, i) => ({ tasksPerSecond, ...claimsOfTenth(samples, tasks, i) })),
      claim: claimTimes(samples),
      cpu,
      tables: await readTables(sql),
      history,
    };
  } finally {
    await holder.end({ timeout: 5 });
  }
}

async function succeeded(client: GrpcClient): Promise<number> {
  const { metrics } = await client.system.getMetrics({ names: ['baton_tasks_succeeded_total'] });
  return metrics[0]!.value;
}

/** A snapshot is taken by the first read. */
async function hold(holder: postgres.Sql): Promise<void> {
  await holder.unsafe('begin isolation level repeatable read');
  await holder.unsafe('select count(*) from baton.tasks');
}

/** It sees nothing of what was done since, or it was not held. @throws SnapshotError */
async function stillHeld(holder: postgres.Sql): Promise<void> {
  const [row] = await holder.unsafe('select count(*)::integer as seen from baton.tasks');
  if (row!.seen !== 0) throw new SnapshotError(`the snapshot sees ${row!.seen} tasks that came after it`);
}

export class SnapshotError extends Error {
  override readonly name = 'SnapshotError';
}

async function sample(client: GrpcClient, sql: postgres.Sql, tasks: number, samples: Sample[]): Promise<void> {
  for (let done = 0; done < tasks; await sleep(WINDOW_MS)) {
    done = await succeeded(client);
    samples.push({ done, claims: await readClaims(sql) });
  }
}

function claimsOfTenth(samples: readonly Sample[], tasks: number, tenth: number): Omit<Tenth, 'tasksPerSecond'> {
  const reached = (part: number) => samples.find(({ done }) => done >= (tasks * part) / 10);
  const from = reached(tenth);
  const to = reached(tenth + 1);
  if (from === undefined || to === undefined || from === to) return { claimMs: null, claimUsPerTask: null };
  const calls = to.claims.calls - from.claims.calls;
  const ms = to.claims.ms - from.claims.ms;
  return { claimMs: calls > 0 ? ms / calls : null, claimUsPerTask: (ms * 1000) / (to.done - from.done) };
}

function claimTimes(samples: readonly Sample[]): ClaimTimes | null {
  const last = samples.at(-1);
  if (last === undefined) return null;
  const means = samples.slice(1).flatMap(({ claims }, i) => {
    const before = samples[i]!.claims;
    return claims.calls > before.calls ? [(claims.ms - before.ms) / (claims.calls - before.calls)] : [];
  });
  if (means.length === 0) return null;
  const { calls, longestMs } = last.claims;
  return { calls, windowMs: percentiles(means), windowLengthMs: WINDOW_MS, longestMs };
}

/** Tasks a second of the first `tasks` that ended, and of each tenth of them. */
async function readSpeeds(sql: postgres.Sql, tasks: number): Promise<{ whole: number; tenths: (number | null)[] }> {
  const rows = await sql<{ tasks: number; until: number }[]>`
    select count(*)::integer as tasks, extract(epoch from max(ended_at) - (select min(granted_at) from baton.attempts))::float8 as until
    from (select ended_at, ntile(10) over (order by ended_at) as tenth
          from (select ended_at from baton.outcomes order by ended_at limit ${tasks}) o) o
    group by tenth order by tenth`;
  const tenths = rows.map(({ tasks: count, until }, i) => {
    const seconds = until - (rows[i - 1]?.until ?? 0);
    return seconds > 0 ? count / seconds : null;
  });
  return { whole: tasks / rows.at(-1)!.until, tenths };
}

async function readTables(sql: postgres.Sql): Promise<TableState[]> {
  // Backends hand in their counts when they are idle for a moment.
  await sleep(1_500);
  const rows = await sql<TableState[]>`
    select c.relname as table, s.n_dead_tup::integer as "deadRows", pg_table_size(c.oid)::float8 / 1e6 as "tableMb",
           pg_indexes_size(c.oid)::float8 / 1e6 as "indexesMb"
    from pg_class c join pg_stat_all_tables s on s.relid = c.oid
    where c.relnamespace = 'baton'::regnamespace and c.relname in ('ready', 'leases') order by c.relname desc`;
  return rows.map((row) => ({ ...row }));
}
