import type { ArtifactRun } from './artifacts.ts';
import type { BacklogRun } from './backlog.ts';
import type { ChurnRun } from './churn.ts';
import type { CpuShare } from './cpu.ts';
import type { CrowdRun } from './crowd.ts';
import type { DrainRun } from './drain.ts';
import type { ExecutorRun } from './executors.ts';
import type { FunctionRun } from './functions.ts';
import type { GapRun } from './gap.ts';
import type { LaneRun } from './lanes.ts';
import type { LatencyRun } from './latency.ts';
import type { Machine } from './machine.ts';
import type { BenchName } from './options.ts';
import type { OverheadRun } from './overhead.ts';
import type { PayloadRun } from './payload.ts';
import type { PeerRun } from './peers/run.ts';
import { type RatioRun, ratios } from './ratios.ts';
import type { Result } from './result.ts';
import type { ResultRun } from './results.ts';
import type { ScaleRun } from './scale.ts';
import type { SizeRun } from './sizes.ts';
import { type Percentiles, round, type Spread, spread } from './statistics.ts';
import type { SubmitRun } from './submit.ts';
import type { WatchRun } from './watch.ts';
import type { WorkflowRun } from './workflows.ts';

export interface Report {
  bench: BenchName;
  at: string;
  machine: Machine;
  postgres: { source: 'embedded' | 'yours'; version: string; settings: Readonly<Record<string, string>> };
  repetitions: number;
  /** Peers that were asked for and could not be measured here. */
  notRun: NotRun[];
  results: Result<
    | DrainRun
    | SubmitRun
    | LatencyRun
    | BacklogRun
    | SizeRun
    | WorkflowRun
    | FunctionRun
    | ArtifactRun
    | GapRun
    | ExecutorRun
    | PeerRun
    | RatioRun
    | CrowdRun
    | ScaleRun
    | WatchRun
    | PayloadRun
    | OverheadRun
    | ChurnRun
    | LaneRun
    | ResultRun
  >[];
}

/** What peers were not measured, and why: in the table too, so that nobody takes their absence for a figure. */
export interface NotRun {
  who: string;
  why: string;
}

export function summarizeDrain(
  runs: readonly (DrainRun | PeerRun<'drain'>)[],
): Result<DrainRun | PeerRun | RatioRun>[] {
  const results = grouped(
    runs,
    ({ who, workers, slots, tasks }) => ({ who, workers, slots, tasks }),
    (run) => ({
      tasks_per_second: run.tasksPerSecond,
      ...cpuFigures(run.cpu),
      preload_tasks_per_second: 'preload' in run ? run.preload.tasksPerSecond : null,
      preload_total_us: 'preload' in run ? run.preload.cpu.totalUs : null,
    }),
  );
  const alike = ({ workers, slots }: (typeof runs)[number]) => ({ workers, slots });
  return [...results, ...ratios(results, alike, { tasks_per_second: (run) => run.tasksPerSecond })];
}

export function summarizeSubmits(
  runs: readonly (SubmitRun | PeerRun<'submit'>)[],
): Result<SubmitRun | PeerRun | RatioRun>[] {
  const results = grouped(
    runs,
    ({ who, way, atOnce, tasksPerCall }) => ({ who, way, at_once: atOnce, tasks_per_call: tasksPerCall }),
    (run) => ({
      tasks_per_second: run.tasksPerSecond,
      answer_p50_ms: run.answerMs.p50,
      answer_p99_ms: run.answerMs.p99,
      ...cpuFigures(run.cpu),
    }),
  );
  const alike = ({ atOnce, tasksPerCall }: (typeof runs)[number]) => ({ atOnce, tasksPerCall });
  return [...results, ...ratios(results, alike, { tasks_per_second: (run) => run.tasksPerSecond })];
}

export function summarizeBacklog(
  runs: readonly (BacklogRun | PeerRun<'backlog'>)[],
): Result<BacklogRun | PeerRun | RatioRun>[] {
  const results = grouped(
    runs,
    ({ who, slots, tasks }) => ({ who, slots, waiting: tasks }),
    (run) => ({ tasks_per_second: run.tasksPerSecond, ...cpuFigures(run.cpu) }),
  );
  const alike = ({ slots, tasks }: (typeof runs)[number]) => ({ slots, tasks });
  return [...results, ...ratios(results, alike, { tasks_per_second: (run) => run.tasksPerSecond })];
}

export function summarizeWorkflows(runs: readonly WorkflowRun[]): Result<WorkflowRun>[] {
  return grouped(
    runs,
    ({ graph, nodes, slots }) => ({ graph, nodes, slots }),
    (run) => ({ nodes_per_second: run.nodesPerSecond, us_per_node: run.usPerNode, ...cpuFigures(run.cpu) }),
  );
}

export function summarizeFunctions(runs: readonly FunctionRun[]): Result<FunctionRun>[] {
  return grouped(
    runs,
    ({ who, what, atOnce, count }) => ({ who, what, at_once: atOnce, count }),
    (run) => ({ per_second: run.perSecond, ...cpuFigures(run.cpu), commits: run.commits }),
  );
}

export function summarizeArtifacts(runs: readonly ArtifactRun[]): Result<ArtifactRun>[] {
  return grouped(
    runs,
    ({ what, mib }) => ({ what, mib }),
    (run) => ({ mb_per_second: run.mbPerSecond }),
  );
}

export function summarizeGaps(runs: readonly GapRun[]): Result<GapRun>[] {
  return grouped(
    runs,
    ({ way, on, tasks, taskMs }) => ({ way, on, tasks, task_ms: taskMs }),
    ({ gapMs }) => ({ gap_p50_ms: gapMs.p50, gap_p95_ms: gapMs.p95, gap_p99_ms: gapMs.p99, gap_max_ms: gapMs.max }),
  );
}

export function summarizeExecutors(runs: readonly ExecutorRun[]): Result<ExecutorRun>[] {
  return grouped(
    runs,
    ({ way, atOnce, tasks }) => ({ way, at_once: atOnce, tasks }),
    ({ perSecond, taskMs, overheadP50Ms, overheadP99Ms, cpu, childrenUs }) => ({
      tasks_per_second: perSecond,
      task_p50_ms: taskMs?.p50 ?? null,
      task_p99_ms: taskMs?.p99 ?? null,
      overhead_p50_ms: overheadP50Ms,
      overhead_p99_ms: overheadP99Ms,
      postgres_us: cpu?.postgresUs ?? null,
      master_us: cpu?.masterUs ?? null,
      worker_us: cpu?.workerUs ?? null,
      children_us: childrenUs,
      client_us: cpu?.clientUs ?? null,
      total_us: cpu?.totalUs ?? null,
      foreign_cores: cpu?.foreignCores ?? null,
    }),
  );
}

export function summarizeLatency(
  runs: readonly (LatencyRun | PeerRun<'latency'>)[],
): Result<LatencyRun | PeerRun | RatioRun>[] {
  const named = (name: string, times: Percentiles | null) => ({
    [`${name}_p50_ms`]: times?.p50 ?? null,
    [`${name}_p95_ms`]: times?.p95 ?? null,
    [`${name}_p99_ms`]: times?.p99 ?? null,
    [`${name}_max_ms`]: times?.max ?? null,
  });
  const results = grouped(
    runs,
    // A load that was measured before differs with each repetition.
    ({ who, slots, rate, load }) => ({ who, slots, rate, beside: load > 0 ? 'load' : 'nothing' }),
    (run) => ({
      load: run.load,
      ...named('start', run.startMs),
      ...named('result', 'resultMs' in run ? run.resultMs : null),
      acknowledged_p50_ms: 'acknowledgedMs' in run ? run.acknowledgedMs.p50 : null,
      acknowledged_p99_ms: 'acknowledgedMs' in run ? run.acknowledgedMs.p99 : null,
      ...cpuFigures(run.cpu),
    }),
  );
  const alike = ({ slots, rate }: (typeof runs)[number]) => ({ slots, rate });
  const faster = {
    start_p50: (run: (typeof runs)[number]) => 1 / run.startMs.p50,
    start_p99: (run: (typeof runs)[number]) => 1 / run.startMs.p99,
  };
  return [...results, ...ratios(results, alike, faster)];
}

export function summarizeCrowd(runs: readonly CrowdRun[]): Result<CrowdRun>[] {
  return grouped(
    runs,
    ({ workers }) => ({ pretended_workers: workers }),
    (run) => ({
      heartbeats: run.heartbeats,
      heartbeat_p50_ms: run.heartbeatMs.p50,
      heartbeat_p99_ms: run.heartbeatMs.p99,
      heartbeat_max_ms: run.heartbeatMs.max,
      queries_per_second: run.queriesPerSecond,
      transactions_per_second: run.transactionsPerSecond,
      master_percent_of_a_core: run.masterPercent,
      postgres_percent_of_a_core: run.postgresPercent,
      driver_percent_of_a_core: run.driverPercent,
      master_rss_mb: run.masterRssMb,
      dead: run.dead,
      failures: run.failures,
      foreign_cores: run.foreignCores,
    }),
  );
}

/** Each way beside the plain one of the same repetition; at least 0.8 is aimed at. */
export function summarizeLanes(runs: readonly LaneRun[]): Result<LaneRun | RatioRun>[] {
  const results = grouped(
    runs,
    ({ way, slots, tasks }) => ({ way, slots, tasks }),
    (run) => ({
      tasks_per_second: run.tasksPerSecond,
      ...cpuFigures(run.cpu),
      preload_tasks_per_second: run.preload.tasksPerSecond,
      preload_total_us: run.preload.cpu.totalUs,
    }),
  );
  const plain = results.filter((result) => result.runs[0]!.way === 'plain');
  const beside = results
    .filter((result) => result.runs[0]!.way !== 'plain')
    .map((result) => {
      const base = plain.find(({ shape }) => shape.slots === result.shape.slots)!;
      const times = result.runs.map((run, rep) => ({ ratio: run.tasksPerSecond / base.runs[rep]!.tasksPerSecond }));
      return {
        shape: { to: 'plain', figure: 'tasks_per_second', ...result.shape },
        figures: { times: spread(times.map(({ ratio }) => round(ratio))) },
        runs: times,
      };
    });
  return [...results, ...beside];
}

export function summarizeScale(runs: readonly ScaleRun[]): Result<ScaleRun>[] {
  return grouped(
    runs,
    ({ workers, tasks, taskMs }) => ({ workers, tasks, task_ms: taskMs }),
    (run) => ({
      efficiency_percent: run.efficiencyPercent,
      tasks_per_second: run.tasksPerSecond,
      ...cpuFigures(run.cpu),
    }),
  );
}

export function summarizeWatch(runs: readonly WatchRun[]): Result<WatchRun>[] {
  return grouped(
    runs,
    ({ watchers, connections, rate }) => ({ watchers, connections, tasks_per_second: rate }),
    ({ delayMs, rssMb, ...run }) => ({
      delay_p50_ms: delayMs.p50,
      delay_p95_ms: delayMs.p95,
      delay_p99_ms: delayMs.p99,
      delay_max_ms: delayMs.max,
      events_of_each: run.eventsOfEach,
      events_per_second: run.eventsPerSecond,
      messages_per_second: run.messagesPerSecond,
      master_percent_of_a_core: run.masterPercent,
      postgres_percent_of_a_core: run.postgresPercent,
      driver_percent_of_a_core: run.driverPercent,
      master_alone_rss_mb: rssMb.alone,
      master_before_rss_mb: rssMb.before,
      master_begun_rss_mb: rssMb.begun,
      master_peak_rss_mb: rssMb.peak,
      master_after_rss_mb: rssMb.after,
      foreign_cores: run.foreignCores,
    }),
  );
}

export function summarizePayload(runs: readonly PayloadRun[]): Result<PayloadRun>[] {
  return grouped(
    runs,
    ({ bytes, tasks }) => ({ bytes, tasks }),
    (run) => ({
      mb_per_second: run.mbPerSecond,
      tasks_per_second: run.tasksPerSecond,
      master_before_mb: run.rssBeforeMb,
      master_peak_mb: run.rssPeakMb,
      master_after_mb: run.rssAfterMb,
      ...cpuFigures(run.cpu),
    }),
  );
}

export function summarizeResults(runs: readonly ResultRun[]): Result<ResultRun>[] {
  return grouped(
    runs,
    ({ way, atOnce }) => ({ way, at_once: atOnce }),
    (run) => ({
      tasks_per_second: run.tasksPerSecond,
      result_p50_ms: run.resultMs.p50,
      result_p99_ms: run.resultMs.p99,
      ...cpuFigures(run.cpu),
    }),
  );
}

export function summarizeOverhead(runs: readonly OverheadRun[]): Result<OverheadRun>[] {
  return grouped(
    runs,
    ({ tasks, taskMs, slots }) => ({ tasks, task_ms: taskMs, slots }),
    (run) => ({
      protocol_percent: run.protocolPercent,
      idle_percent_of_a_core: run.idlePercent,
      heartbeat_thread_percent: run.heartbeatPercent,
      ...cpuFigures(run.cpu),
    }),
  );
}

/** `held_to_none`: tasks/s with the snapshot by those without, repetition by repetition. */
export function summarizeChurn(runs: readonly ChurnRun[]): Result<ChurnRun | RatioRun>[] {
  const results = grouped(
    runs,
    ({ snapshot, slots, tasks, ahead }) => ({ snapshot, slots, tasks, ahead }),
    ({ tenths, claim, tables, ...run }) => ({
      tasks_per_second: run.tasksPerSecond,
      first_tenth_tasks_per_second: tenths[0]!.tasksPerSecond,
      last_tenth_tasks_per_second: tenths.at(-1)!.tasksPerSecond,
      claim_window_p50_ms: claim?.windowMs.p50 ?? null,
      claim_window_p99_ms: claim?.windowMs.p99 ?? null,
      claim_longest_ms: claim?.longestMs ?? null,
      ...Object.fromEntries(
        tenths.flatMap(({ claimMs, claimUsPerTask }, i) => [
          [`claim_ms_tenth_${i + 1}`, claimMs],
          [`claim_us_a_task_tenth_${i + 1}`, claimUsPerTask],
        ]),
      ),
      ...Object.fromEntries(
        tables.flatMap(({ table, deadRows, tableMb, indexesMb }) => [
          [`${table}_dead_rows`, deadRows],
          [`${table}_table_mb`, tableMb],
          [`${table}_indexes_mb`, indexesMb],
        ]),
      ),
      ...cpuFigures(run.cpu),
    }),
  );
  const pairs = Map.groupBy(runs, ({ slots }) => slots);
  return [
    ...results,
    ...[...pairs].map(([slots, of]) => {
      const held = of.filter(({ snapshot }) => snapshot === 'held');
      const none = of.filter(({ snapshot }) => snapshot === 'none');
      const ratios = held.map((run, rep) => ({ ratio: run.tasksPerSecond / none[rep]!.tasksPerSecond }));
      return {
        shape: { held_to_none: 'tasks_per_second', slots },
        figures: { times: spread(ratios.map(({ ratio }) => ratio)) },
        runs: ratios,
      };
    }),
  ];
}

export function summarizeSizes(runs: readonly SizeRun[]): Result<SizeRun>[] {
  return grouped(
    runs,
    ({ table, tasks }) => ({ table, tasks }),
    (run) => ({
      table_mb: run.tableMb,
      indexes_mb: run.indexesMb,
      peak_mb: run.peakMb,
      live_rows: run.liveRows,
      dead_rows: run.deadRows,
      mb_per_million_tasks: run.mbPerMillion,
    }),
  );
}

function cpuFigures(cpu: CpuShare): Record<string, number | null> {
  return {
    postgres_us: cpu.postgresUs,
    master_us: cpu.masterUs,
    worker_us: cpu.workerUs,
    client_us: cpu.clientUs,
    total_us: cpu.totalUs,
    foreign_cores: cpu.foreignCores,
  };
}

function grouped<Run>(
  runs: readonly Run[],
  shapeOf: (run: Run) => Record<string, string | number>,
  figuresOf: (run: Run) => Record<string, number | null>,
): Result<Run>[] {
  const groups = Map.groupBy(runs, (run) => JSON.stringify(shapeOf(run)));
  return [...groups.values()].map((group) => {
    const figures = group.map(figuresOf);
    return {
      shape: shapeOf(group[0]!),
      figures: Object.fromEntries(
        Object.keys(figures[0]!).map((name) => {
          const values = figures.map((each) => each[name]).filter((value) => typeof value === 'number');
          return [name, values.length > 0 ? spread(values) : null];
        }),
      ),
      runs: group,
    };
  });
}

/** For people: each figure as `median (min–max)`, or alone where nothing was repeated. */
export function asTable(report: Report): string {
  const { machine, postgres } = report;
  const head = [
    `${report.bench}, ${report.repetitions} repetitions, ${report.at}`,
    `${machine.processor}, ${machine.cores} cores, ${machine.memoryGib} GiB, Node ${machine.node}, load average ${round(machine.loadAverage)} at the start`,
    `PostgreSQL ${postgres.version} (${postgres.source}), ${Object.entries(postgres.settings)
      .map(([name, value]) => `${name}=${value}`)
      .join(' ')}`,
    'us: microseconds of CPU a task. foreign_cores: cores that others used.',
    ...report.notRun.map(({ who, why }) => `NOT RUN: ${who}: ${why}`),
  ];
  // One table for what has the same figures.
  const alike = Map.groupBy(report.results, ({ shape, figures }) => Object.keys({ ...shape, ...figures }).join());
  return [...head, ...[...alike.values()].flatMap((results) => ['', tableOf(results)]), ''].join('\n');
}

function tableOf(results: Report['results']): string {
  const rows = results.map(({ shape, figures }) => [
    ...Object.values(shape).map(String),
    ...Object.values(figures).map(cell),
  ]);
  const header = Object.keys({ ...results[0]!.shape, ...results[0]!.figures });
  // Wide: one line for each figure, one column for each measurement.
  const lines = header.map((name, i) => [name, ...rows.map((row) => row[i]!)]);
  const widths = Array.from({ length: rows.length + 1 }, (_, column) =>
    Math.max(...lines.map((line) => line[column]!.length)),
  );
  return lines
    .map((line) => line.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  '))
    .join('\n');
}

function cell(figure: Spread | null): string {
  if (figure === null) return '-';
  const { median, min, max } = figure;
  return min === max ? String(median) : `${median} (${min}–${max})`;
}
