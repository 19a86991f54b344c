import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  claimTasks,
  completeTasks,
  internLane,
  migrate,
  openPools,
  openSql,
  registerWorker,
  submitTasks,
  type Want,
} from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import { testDatabase } from '@baton/testkit';
import postgres from 'postgres';
import { expect, inject, test } from 'vitest';
import type { DrainRun } from './drain.ts';
import type { ExecutorRun } from './executors.ts';
import type { FunctionRun } from './functions.ts';
import type { GapRun } from './gap.ts';
import { IncompleteHistoryError, verifyHistory } from './history.ts';
import type { LatencyRun } from './latency.ts';
import type { Report } from './report.ts';
import type { Result } from './result.ts';
import type { SizeRun } from './sizes.ts';
import { percentiles, spread } from './statistics.ts';
import type { SubmitRun } from './submit.ts';
import type { WorkflowRun } from './workflows.ts';

const timeout = 180_000;

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function bench(...argv: string[]): Promise<Ended> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...argv], { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    );
  });
}

async function measured(...argv: string[]): Promise<Report> {
  const { code, stdout, stderr } = await bench(...argv, '-o', 'json', '--postgres', inject('postgresUrl'));
  expect(stderr).toContain('PostgreSQL');
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Report;
}

test('drain loads tasks, lets workers take them, and counts their whole history', { timeout }, async () => {
  const report = await measured(
    'drain',
    '--tasks',
    '300',
    '--concurrency',
    '4',
    '--workers',
    '2',
    '--reps',
    '2',
    '--peers',
    'none',
  );
  expect(report).toMatchObject({ bench: 'drain', repetitions: 2, postgres: { source: 'yours' } });
  expect(report.machine).toMatchObject({ cores: expect.any(Number), node: process.version });
  // What the server says, and not what the benchmark would like: the tests' server does not fsync.
  expect(report.postgres.settings).toMatchObject({ fsync: 'off', synchronous_commit: 'on' });
  const results = report.results as Result<DrainRun>[];
  expect(results.map((result) => result.shape)).toEqual([{ who: 'baton', workers: 2, slots: 4, tasks: 300 }]);
  for (const { figures, runs } of results) {
    expect(runs.map((run) => run.history)).toEqual(
      Array(2).fill({ tasks: 300, outcomes: 300, attempts: 300, events: 900 }),
    );
    for (const name of ['tasks_per_second', 'master_us', 'worker_us', 'client_us', 'total_us', 'foreign_cores']) {
      const { min, median, max } = figures[name]!;
      expect(min, name).toBeGreaterThanOrEqual(0);
      expect(median, name).toBeGreaterThanOrEqual(min);
      expect(max, name).toBeGreaterThanOrEqual(median);
    }
    expect(figures.tasks_per_second!.min).toBeGreaterThan(0);
    expect(figures.preload_tasks_per_second!.min).toBeGreaterThan(0);
  }
  const admin = postgres(inject('postgresUrl'), { max: 1, fetch_types: false });
  // Those of benches beside this one are in use.
  const left = () => admin`
    select d.datname from pg_database d
    where d.datname like 'baton_bench_%' and not exists (select from pg_stat_activity a where a.datname = d.datname)`;
  await expect.poll(left).toEqual([]);
  await admin.end();
});

test('submit measures every way, and what was answered is on disk', { timeout }, async () => {
  const report = await measured('submit', '--seconds', '0.1', '--reps', '1', '--peers', 'none');
  const runs = (report.results as Result<SubmitRun>[]).flatMap((result) => result.runs);
  expect(runs.map((run) => [run.way, run.atOnce, run.tasksPerCall])).toEqual([
    ['grpc', 1, 1],
    ['grpc', 16, 1],
    ['grpc', 128, 1],
    ['sdk', 1, 1],
    ['sdk', 16, 1],
    ['sdk', 128, 1],
    ['bulk', 1, 1000],
  ]);
  for (const run of runs) {
    expect(run.stored).toBe(run.tasks);
    expect(run.tasks).toBeGreaterThan(0);
    expect(run.answerMs.p50).toBeLessThanOrEqual(run.answerMs.max);
  }
});

test('latency follows each probe from its submit to its start and to its result', { timeout }, async () => {
  const report = await measured('latency', '--seconds', '1', '--reps', '1', '--concurrency', '2', '--peers', 'none');
  const [run] = (report.results as Result<LatencyRun>[]).flatMap((result) => result.runs);
  expect(run).toMatchObject({ slots: 2, rate: 20, probes: 20 });
  expect(run!.startMs.samples).toBe(20);
  expect(run!.startMs.p50).toBeGreaterThan(0);
  expect(run!.resultMs.max).toBeGreaterThan(run!.startMs.p50);
});

test('sizes lets tasks come and go, and says what every table takes then', { timeout }, async () => {
  const report = await measured('sizes', '--tasks', '1500');
  expect(report.repetitions).toBe(1);
  const runs = (report.results as Result<SizeRun>[]).flatMap((result) => result.runs);
  const of = (table: string) => runs.find((run) => run.table === table)!;
  // 1 500 and the nodes of a run for every other call.
  for (const { tasks } of runs) expect(tasks).toBe(1503);
  for (const table of ['ready', 'waiting', 'leases', 'advances'])
    expect(of(table)).toMatchObject({ liveRows: 0, mbPerMillion: null });
  expect(of('tasks').liveRows).toBe(1503);
  expect(of('attempts').liveRows).toBe(1503 + 30);
  expect(of('idempotency').liveRows).toBe(150);
  expect(of('outcomes').mbPerMillion).toBeGreaterThan(100);
  for (const run of runs)
    if (run.peakMb !== null) expect(run.peakMb + 1e-9).toBeGreaterThanOrEqual(run.tableMb + run.indexesMb);
});

test('workflows runs each graph small and large, counts its tasks, and measures functions beside DBOS', {
  timeout,
}, async () => {
  const report = await measured('workflows', '--tasks', '100', '--concurrency', '4', '--reps', '1');
  expect(report).toMatchObject({ bench: 'workflows', repetitions: 1 });
  const all = report.results as Result<WorkflowRun | FunctionRun>[];
  const runs = all.flatMap((result) => result.runs).filter((run) => 'graph' in run);
  const functions = all.flatMap((result) => result.runs).filter((run) => 'who' in run);
  expect(functions.map(({ who, what, count, perSecond }) => [who, what, count, perSecond > 0])).toEqual([
    ['baton', 'steps', 10, true],
    ['baton', 'runs', 20, true],
    ['dbos', 'runs', 20, true],
  ]);
  expect(runs.map((run) => [run.graph, run.nodes])).toEqual([
    ['chain', 1],
    ['chain', 10],
    ['fan-out', 11],
    ['fan-out', 101],
    ['lattice', 9],
    ['lattice', 100],
  ]);
  for (const { nodesPerSecond, seconds, nodes } of runs) {
    expect(seconds).toBeGreaterThan(0);
    expect(nodesPerSecond).toBeCloseTo(nodes / seconds, 3);
  }
});

test('functions measures steps and runs, and DBOS doing the same on the same server', { timeout }, async () => {
  const report = await measured('functions', '--tasks', '20', '--reps', '1');
  expect(report).toMatchObject({ bench: 'functions', repetitions: 1 });
  const runs = (report.results as Result<FunctionRun>[]).flatMap((result) => result.runs);
  expect(runs.map(({ who, what, count }) => [who, what, count])).toEqual([
    ['baton', 'steps', 20],
    ['baton', 'runs', 40],
    ['dbos', 'runs', 40],
  ]);
  for (const { perSecond } of runs) expect(perSecond).toBeGreaterThan(0);
});

test('gap measures each way on a slot and on a device', { timeout }, async () => {
  const report = await measured('gap', '--tasks', '5', '--reps', '1');
  const runs = (report.results as Result<GapRun>[]).flatMap((result) => result.runs);
  expect(runs.map(({ way, on }) => `${way} ${on}`)).toEqual(
    ['slot', 'device'].flatMap((on) => ['function', 'thread', 'process', 'program'].map((way) => `${way} ${on}`)),
  );
  for (const { gapMs } of runs) {
    expect(gapMs.samples).toBe(5);
    // One after the other: two at once on the slot or the device would show as less than nothing.
    expect(gapMs.p50).toBeGreaterThan(0);
  }
});

test('executors measures the same task by each, and says what was not run', { timeout }, async () => {
  const report = await measured('executors', '--tasks', '4', '--reps', '1', '--concurrency', '2');
  const runs = (report.results as Result<ExecutorRun>[]).flatMap((result) => result.runs);
  expect(runs.map((run) => run.way)).toEqual([
    'function',
    'function in a thread',
    'function in a process',
    'process, cold',
    'process, warm',
    'grpc',
    'http',
    'container, cold',
  ]);
  expect(runs[0]).toMatchObject({ atOnce: 2, tasks: 4, overheadP50Ms: 0 });
  for (const { notRun, perSecond, childrenUs, way } of runs) {
    if (way !== 'container, cold') expect(notRun, way).toBeUndefined();
    if (notRun !== undefined) expect(perSecond).toBeNull();
    else {
      expect(perSecond).toBeGreaterThan(0);
      expect(childrenUs).toBeGreaterThanOrEqual(0);
    }
  }
});

test('a command line that makes no sense is refused with what there is', async () => {
  for (const argv of [[], ['drane'], ['drain', '--tasks', '0'], ['drain', '-o', 'xml'], ['drain', '--fast']]) {
    const { code, stdout, stderr } = await bench(...argv);
    expect(code, argv.join(' ')).toBe(64);
    expect(stdout).toBe('');
    expect(stderr).toContain('npm run bench -- drain|submit|latency');
  }
});

test('a history in which anything is missing is no measurement', async () => {
  await using database = await testDatabase();
  const pools = openPools(database.url);
  const one = openSql(database.url, { max: 1 });
  try {
    await migrate(one, loadMigrations());
    const lane = await internLane(pools.api, {
      namespaceId: 1,
      queue: 'default',
      kind: 'noop',
      executor: 'function',
      taskClass: 'cpu_short',
      tags: [],
    });
    const base = BigInt(Date.now() - 1_735_689_600_000) << 22n;
    const { sessionId } = await registerWorker(pools.lease, {
      sessionId: String(base),
      namespaceId: 1,
      name: 'w',
      instanceId: 'one',
      capabilities: {},
      serviceUrl: '',
      version: '',
      metadata: {},
      leaseTtlMs: 60_000,
    });
    const tasks = [1n, 2n, 3n].map((n) => ({
      id: String(base + n),
      namespaceId: 1,
      routeId: lane.routeId,
      laneId: lane.id,
      priority: 0,
      maxAttempts: 4,
      startToCloseMs: 1_000,
      encoding: 1 as const,
      input: null,
      dueAtMs: null,
      idempotency: null,
      extra: null,
    }));
    await submitTasks(pools.hot, tasks);
    const want: Want = { sessionId: sessionId!, count: 10 };
    const grants = await claimTasks(pools.hot, [lane.id], [want]);
    await completeTasks(
      pools.hot,
      grants.map(({ taskId, epoch }) => ({
        taskId,
        epoch,
        sessionId: sessionId!,
        output: new TextEncoder().encode('null'),
        encoding: 1 as const,
        ranUs: 1,
      })),
    );
    expect(await verifyHistory(pools.api, 3)).toMatchObject({ tasks: 3, outcomes: 3, attempts: 3, events: 9 });
    await expect(verifyHistory(pools.api, 4)).rejects.toThrow('tasks=3, outcomes=3');
    const damages: [statement: string, said: RegExp][] = [
      [`update baton.attempts set epoch = 2 where task_id = ${grants[0]!.taskId}`, /whole=2/],
      [`delete from baton.outcomes where task_id = ${grants[0]!.taskId}`, /outcomes=2/],
      ['update baton.events set types = array_remove(types, 5::smallint)', /events of succeeded=0/],
    ];
    for (const [statement, said] of damages) {
      await pools.api.unsafe(statement);
      await expect(verifyHistory(pools.api, 3), statement).rejects.toThrow(said);
      await expect(verifyHistory(pools.api, 3)).rejects.toBeInstanceOf(IncompleteHistoryError);
    }
  } finally {
    await one.end();
    await pools.end();
  }
});

test('the spread and the percentiles of known samples', () => {
  expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
  expect(spread([4, 1, 2, 3])).toEqual({ median: 2.5, min: 1, max: 4 });
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(percentiles(hundred)).toEqual({ samples: 100, p50: 50, p95: 95, p99: 99, max: 100 });
  expect(percentiles([7])).toEqual({ samples: 1, p50: 7, p95: 7, p99: 7, max: 7 });
});

test('artifacts measures a file that goes from one worker to another, and that is known or at hand', {
  timeout,
}, async () => {
  const report = await measured('artifacts', '--tasks', '3', '--reps', '1');
  expect(report.results.map((result) => result.shape)).toEqual(
    ['put', 'get', 'get cached', 'put known'].map((what) => ({ what, mib: 3 })),
  );
  for (const { figures } of report.results) expect(figures.mb_per_second!.median).toBeGreaterThan(0);
});
