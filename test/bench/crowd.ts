import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { CrowdWord } from './crowd.program.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import { readCalls, readCommits, readStatements, resetStatements, type StatementCost } from './statements.ts';
import { type Percentiles, percentiles } from './statistics.ts';

/** One master with so many pretended workers connected, and nothing to do. */
export interface CrowdRun {
  /** Pretended: see crowd.program.ts. */
  workers: number;
  seconds: number;
  heartbeats: number;
  heartbeatMs: Percentiles;
  /** Transactions a second, and of these per worker and minute. */
  transactionsPerSecond: number;
  /** Where pg_stat_statements counts them. Of transactions some are Postgres's own, and some are told late by connections that rest. */
  queriesPerSecond: number | null;
  /** Of one core. */
  masterPercent: number;
  postgresPercent: number | null;
  /** Of the pretended workers' processes. */
  driverPercent: number;
  foreignCores: number;
  masterRssMb: number;
  /** Sessions that were not active any more at the end, and calls that failed. */
  dead: number;
  failures: number;
  /** What is aimed at, and whether it is so. */
  aims: Aim[];
  /** With `--statements`: calls are those of all, times those of a second. */
  statements?: StatementCost[];
}

export interface Aim {
  what: string;
  most: number;
  is: number | null;
  isMet: boolean | null;
}

/** Of a crowd that idles: whatever their number; of CPU: of few. Of 10 000: heartbeats, memory, none dead. */
function aimsOf(run: Omit<CrowdRun, 'aims' | 'statements'>): Aim[] {
  const aim = (what: string, most: number, is: number | null): Aim => ({
    what,
    most,
    is,
    isMet: is === null ? null : is <= most,
  });
  const always = [aim('queries/s', 1, run.queriesPerSecond), aim('dead', 0, run.dead)];
  if (run.workers < 10_000) return [...always, aim('% of a core, master', 1, run.masterPercent)];
  return [...always, aim('heartbeat p99, ms', 250, run.heartbeatMs.p99), aim('MiB, master', 1024, run.masterRssMb)];
}

/** So many pretended workers in one process. */
const PER_DRIVER = 5_000;

export async function measureCrowd(server: BenchServer, options: BenchOptions, workers: number): Promise<CrowdRun> {
  await using product = await startProduct(server, options);
  const { sql } = product.database;
  const program = fileURLToPath(new URL('crowd.program.ts', import.meta.url));
  const drivers = Array.from({ length: Math.ceil(workers / PER_DRIVER) }, (_, n) => {
    const count = Math.min(PER_DRIVER, workers - n * PER_DRIVER);
    return fork(program, [product.url, String(count), String(n * PER_DRIVER)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
  });
  try {
    await Promise.all(drivers.map((driver) => once(driver, 'message')));
    await sleep(options.settleMs);
    for (const driver of drivers) driver.send('begin');
    const withStatements = options.statements && server.hasStatements;
    if (withStatements) await resetStatements(sql);
    const calls = server.hasStatements ? await readCalls(sql) : null;
    const commits = await readCommits(sql);
    const from = product.readCpu(drivers.map((driver) => driver.pid!));
    await sleep(options.seconds * 1000);
    const to = product.readCpu(drivers.map((driver) => driver.pid!));
    const transactions = (await readCommits(sql)) - commits;
    const queries = calls === null ? null : (await readCalls(sql)) - calls;
    const statements = withStatements ? await readStatements(sql, options.seconds) : undefined;
    const words = await Promise.all(
      drivers.map(async (driver) => {
        driver.send('end');
        const [word] = (await once(driver, 'message')) as [CrowdWord];
        return word;
      }),
    );
    const [row] = await sql`select count(*) filter (where state <> 'active' or expires_at < now())::int as dead,
      count(*)::int as all from baton.sessions`;
    if (row!.all !== workers) throw new CrowdError(`${row!.all} sessions of ${workers} workers`);
    const seconds = (to.atMs - from.atMs) / 1000;
    const percent = (part: 'master' | 'worker') => ((to[part] - from[part]) / seconds) * 100;
    const postgres = to.postgres === null || from.postgres === null ? null : to.postgres - from.postgres;
    const ours = (postgres ?? 0) + to.master - from.master + to.worker - from.worker + to.client - from.client;
    const heartbeatMs = words.flatMap((word) => word.heartbeatMs);
    const run = {
      workers,
      seconds,
      heartbeats: heartbeatMs.length,
      heartbeatMs: percentiles(heartbeatMs),
      transactionsPerSecond: transactions / seconds,
      queriesPerSecond: queries === null ? null : queries / seconds,
      masterPercent: percent('master'),
      postgresPercent: postgres === null ? null : (postgres / seconds) * 100,
      driverPercent: percent('worker'),
      foreignCores: Math.max(0, to.machineBusy - from.machineBusy - ours) / seconds,
      masterRssMb: rssMb(product.masterPid),
      dead: row!.dead as number,
      failures: words.flatMap((word) => Object.values(word.failures)).reduce((sum, count) => sum + count, 0),
    };
    return { ...run, aims: aimsOf(run), ...(statements && { statements }) };
  } finally {
    for (const driver of drivers) driver.kill('SIGKILL');
  }
}

/** The bench did not have the workers that it meant to have. */
export class CrowdError extends Error {
  override readonly name = 'CrowdError';
}

/** What a process has in memory, MB. */
export function rssMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}
