import { measureArtifacts } from './artifacts.ts';
import { drainedOf, measureBacklog, SMALL_BACKLOG } from './backlog.ts';
import { measureChurn } from './churn.ts';
import { measureCrowd } from './crowd.ts';
import { measureDrain } from './drain.ts';
import { measureExecutors } from './executors.ts';
import { type FunctionRun, measureFunctions } from './functions.ts';
import { measureGaps } from './gap.ts';
import { LANE_WAYS, measureLanes } from './lanes.ts';
import { measureLatency } from './latency.ts';
import { readMachine } from './machine.ts';
import type { BenchOptions } from './options.ts';
import { measureOverhead } from './overhead.ts';
import { measurePayload } from './payload.ts';
import { drainPeer } from './peers/drain.ts';
import { latencyOfPeer } from './peers/latency.ts';
import type { PeerName } from './peers/registry.ts';
import { cannotRun } from './peers/store.ts';
import { submitPeer } from './peers/submit.ts';
import {
  type NotRun,
  type Report,
  summarizeArtifacts,
  summarizeBacklog,
  summarizeChurn,
  summarizeCrowd,
  summarizeDrain,
  summarizeExecutors,
  summarizeFunctions,
  summarizeGaps,
  summarizeLanes,
  summarizeLatency,
  summarizeOverhead,
  summarizePayload,
  summarizeResults,
  summarizeScale,
  summarizeSizes,
  summarizeSubmits,
  summarizeWatch,
  summarizeWorkflows,
} from './report.ts';
import { measureResults } from './results.ts';
import { measureScale } from './scale.ts';
import { openServer } from './server.ts';
import { measureSizes } from './sizes.ts';
import { round } from './statistics.ts';
import { measureSubmits } from './submit.ts';
import { measureWatch } from './watch.ts';
import { measureWorkflows, type WorkflowRun } from './workflows.ts';

/** A peer that is slower than this is measured by what it does meanwhile. */
const CAP_MS = 15_000;
/** Drained to see what half a load is. */
const LOAD_TASKS = 30_000;

const named = <Run>({ name }: PeerName, run: Run): Run & { who: string } => ({ who: name, ...run });

/**
 * Runs one benchmark with all its repetitions, each on a fresh database with fresh processes. The repetition is the outer loop, so
 * that a machine that becomes slower for a while touches every measurement alike. A run that is not complete ends it with an error.
 * So does the rejection of `interrupted`; the server is stopped and removed in any case.
 */
export async function runBench(
  options: BenchOptions,
  progress: (line: string) => void,
  interrupted: Promise<never>,
): Promise<Report> {
  const machine = readMachine();
  const at = new Date().toISOString();
  await using server = await openServer(options.postgresUrl);
  const { source, version, settings } = server;
  progress(`PostgreSQL ${version} (${source})`);
  const notRun: NotRun[] = [];
  // Baton first, then the others, in each repetition.
  const products: (PeerName | null)[] = [null];
  for (const name of options.peers) {
    const why = await cannotRun(name);
    if (why === null) products.push(name);
    else {
      notRun.push({ who: name.name, why });
      progress(`NOT RUN: ${name.name}: ${why}`);
    }
  }
  return {
    bench: options.bench,
    at,
    machine,
    postgres: { source, version, settings },
    repetitions: options.reps,
    notRun,
    results: await Promise.race([measure(), interrupted]),
  };

  async function measure(): Promise<Report['results']> {
    switch (options.bench) {
      case 'drain':
        return summarizeDrain(
          await repeat(async (rep, runs) => {
            for (const workers of options.workers)
              for (const slots of options.concurrency)
                for (const who of products) {
                  const run =
                    who === null
                      ? await measureDrain(server, options, { workers, slots })
                      : named(
                          who,
                          await drainPeer(server, who, { workers, slots, tasks: options.tasks, capMs: CAP_MS }),
                        );
                  runs.push(run);
                  progress(
                    `${rep}: ${run.who}, ${workers} workers of ${slots} slots: ${round(run.tasksPerSecond)} tasks/s, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                  );
                }
          }),
        );
      case 'backlog':
        return summarizeBacklog(
          await repeat(async (rep, runs) => {
            for (const slots of options.concurrency)
              for (const tasks of new Set([Math.min(SMALL_BACKLOG, options.tasks), options.tasks]))
                for (const who of products) {
                  const shape = { workers: 1, slots, tasks, enough: drainedOf(tasks), capMs: CAP_MS };
                  const run =
                    who === null
                      ? await measureBacklog(server, options, slots, tasks)
                      : named(who, await drainPeer(server, who, shape));
                  runs.push(run);
                  progress(
                    `${rep}: ${run.who}, ${tasks} wait: ${round(run.tasksPerSecond)} tasks/s, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                  );
                }
          }),
        );
      case 'submit':
        return summarizeSubmits(
          await repeat(async (rep, runs) => {
            for (const who of products) {
              const ways =
                who === null
                  ? await measureSubmits(server, options, () => {})
                  : (await submitPeer(server, who, options.seconds * 1000)).map((run) => named(who, run));
              runs.push(...ways);
              for (const run of ways)
                progress(
                  `${rep}: ${run.who}, ${run.way}, ${run.atOnce} at once: ${round(run.tasksPerSecond)} tasks/s, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                );
            }
          }),
        );
      case 'functions':
        return summarizeFunctions(await repeat((rep, runs) => functions(rep, runs, options)));
      case 'artifacts':
        return summarizeArtifacts(
          await repeat(async (rep, runs) => {
            runs.push(
              ...(await measureArtifacts(server, options, (run) =>
                progress(`${rep}: ${run.what} of ${run.mib} MiB: ${round(run.mbPerSecond)} MB/s`),
              )),
            );
          }),
        );
      case 'sizes':
        return summarizeSizes(
          await repeat(async (rep, runs) => {
            runs.push(...(await measureSizes(server, options)));
            for (const { table, tableMb, indexesMb } of runs)
              progress(`${rep}: ${table} ${round(tableMb + indexesMb)} MB`);
          }),
        );
      case 'workflows': {
        // Both in each repetition: a machine that becomes slower for a while touches them alike.
        const asFunctions: FunctionRun[] = [];
        const graphs = await repeat<WorkflowRun>(async (rep, runs) => {
          runs.push(
            ...(await measureWorkflows(server, options, (run) =>
              progress(
                `${rep}: ${run.graph} of ${run.nodes}: ${round(run.nodesPerSecond)} nodes/s, ${round(run.cpu.totalUs)} us a node, foreign cores ${round(run.cpu.foreignCores)}`,
              ),
            )),
          );
          await functions(rep, asFunctions, { ...options, tasks: Math.ceil(options.tasks / 10) });
        });
        return [...summarizeWorkflows(graphs), ...summarizeFunctions(asFunctions)];
      }
      case 'gap':
        return summarizeGaps(
          await repeat(async (rep, runs) => {
            runs.push(
              ...(await measureGaps(server, options, (run) =>
                progress(`${rep}: ${run.way} on a ${run.on}: gap p50 ${run.gapMs.p50} ms, p99 ${run.gapMs.p99} ms`),
              )),
            );
          }),
        );
      case 'executors':
        return summarizeExecutors(
          await repeat(async (rep, runs) => {
            runs.push(
              ...(await measureExecutors(server, options, (run) =>
                progress(
                  run.notRun === undefined
                    ? `${rep}: ${run.way}, ${run.atOnce} at once: ${round(run.perSecond!)} tasks/s, p50 ${run.taskMs!.p50} ms, ${round(run.cpu!.totalUs)} us a task, foreign cores ${round(run.cpu!.foreignCores)}`
                    : `${rep}: ${run.way}, ${run.atOnce} at once: NOT RUN, ${run.notRun}`,
                ),
              )),
            );
          }),
        );
      case 'idle':
      case 'workers':
        return summarizeCrowd(
          await repeat(async (rep, runs) => {
            for (const workers of options.workers) {
              const run = await measureCrowd(server, options, workers);
              runs.push(run);
              progress(
                `${rep}: ${workers} pretended workers: heartbeat p99 ${run.heartbeatMs.p99} ms, ${round(run.transactionsPerSecond)} transactions/s, master ${round(run.masterPercent)} % of a core, ${round(run.masterRssMb)} MB, ${run.dead} dead, foreign cores ${round(run.foreignCores)}`,
              );
              for (const { what, most, is, isMet } of run.aims)
                progress(
                  `  aim: ${what} at most ${most}: ${is === null ? 'not counted here' : `${round(is)}, ${isMet ? 'met' : 'MISSED'}`}`,
                );
            }
          }),
        );
      case 'churn':
        return summarizeChurn(
          await repeat(async (rep, runs) => {
            // In turn first: the machine is warmer, or wanted by others, for the second.
            for (const slots of options.concurrency)
              for (const snapshot of rep.startsWith('2') ? (['held', 'none'] as const) : (['none', 'held'] as const)) {
                const run = await measureChurn(server, options, slots, snapshot);
                runs.push(run);
                progress(
                  `${rep}: snapshot ${snapshot}: ${round(run.tasksPerSecond)} tasks/s, first tenth ${round(run.tenths[0]!.tasksPerSecond ?? 0)}, last ${round(run.tenths.at(-1)!.tasksPerSecond ?? 0)}, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                );
              }
          }),
        );
      case 'lanes':
        return summarizeLanes(
          await repeat(async (rep, runs) => {
            for (const slots of options.concurrency)
              for (const way of LANE_WAYS) {
                const run = await measureLanes(server, options, slots, way);
                runs.push(run);
                progress(
                  `${rep}: ${way}: ${round(run.tasksPerSecond)} tasks/s, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                );
              }
          }),
        );
      case 'watch':
        return summarizeWatch(
          await repeat(async (rep, runs) => {
            for (const watchers of options.workers) {
              const run = await measureWatch(server, options, watchers);
              runs.push(run);
              progress(
                `${rep}: ${watchers} watchers: delay p50 ${run.delayMs.p50} ms, p99 ${run.delayMs.p99} ms, ${round(run.messagesPerSecond)} messages/s, master ${round(run.masterPercent)} % of a core, ${round(run.rssMb.before)} to ${round(run.rssMb.peak)} MB, foreign cores ${round(run.foreignCores)}`,
              );
            }
          }),
        );
      case 'scale':
        return summarizeScale(
          await repeat(async (rep, runs) => {
            for (const workers of options.workers) {
              const run = await measureScale(server, options, workers);
              runs.push(run);
              progress(
                `${rep}: ${workers} workers: ${round(run.efficiencyPercent)} %, foreign cores ${round(run.cpu.foreignCores)}`,
              );
            }
          }),
        );
      case 'payload':
        return summarizePayload(
          await repeat(async (rep, runs) => {
            runs.push(
              ...(await measurePayload(server, options, (run) =>
                progress(
                  `${rep}: ${run.bytes} bytes: ${round(run.mbPerSecond)} MB/s, ${round(run.tasksPerSecond)} tasks/s, master ${round(run.rssBeforeMb)} MB, at most ${round(run.rssPeakMb)}, then ${round(run.rssAfterMb)}, foreign cores ${round(run.cpu.foreignCores)}`,
                ),
              )),
            );
          }),
        );
      case 'results':
        return summarizeResults(
          await repeat(async (rep, runs) => {
            runs.push(
              ...(await measureResults(server, options, (run) =>
                progress(
                  `${rep}: ${run.way}, ${run.atOnce} at once: ${round(run.tasksPerSecond)} results/s, p50 ${round(run.resultMs.p50)} ms, p99 ${round(run.resultMs.p99)} ms, foreign cores ${round(run.cpu.foreignCores)}`,
                ),
              )),
            );
          }),
        );
      case 'overhead':
        return summarizeOverhead(
          await repeat(async (rep, runs) => {
            const run = await measureOverhead(server, options);
            runs.push(run);
            progress(
              `${rep}: ${round(run.protocolPercent)} % of a busy worker's CPU, ${round(run.idlePercent)} % of a core while idle, foreign cores ${round(run.cpu.foreignCores)}`,
            );
          }),
        );
      case 'latency':
        return summarizeLatency(
          await repeat(async (rep, runs) => {
            for (const slots of options.concurrency)
              for (const who of products) {
                const { rate, seconds } = options;
                const load = options.load === 'half' ? await halfLoad(who, slots) : options.load;
                const run =
                  who === null
                    ? await measureLatency(server, options, slots, load)
                    : named(who, await latencyOfPeer(server, who, { slots, rate, seconds, load }));
                runs.push(run);
                progress(
                  `${rep}: ${run.who}, ${slots} slots, load ${load}/s: start p50 ${run.startMs.p50} ms, p99 ${run.startMs.p99} ms, foreign cores ${round(run.cpu.foreignCores)}`,
                );
              }
          }),
        );
    }
  }

  /** Half of what it takes when it drains, tasks a second. */
  async function halfLoad(who: PeerName | null, slots: number): Promise<number> {
    const tasks = Math.min(options.tasks, LOAD_TASKS);
    const shape = { workers: 1, slots, tasks };
    const { tasksPerSecond } =
      who === null
        ? await measureDrain(server, { ...options, tasks, statements: false }, shape)
        : await drainPeer(server, who, { ...shape, capMs: CAP_MS / 2 });
    return Math.max(1, Math.floor(tasksPerSecond / 2));
  }

  async function functions(rep: string, runs: FunctionRun[], how: BenchOptions): Promise<void> {
    runs.push(
      ...(await measureFunctions(server, how, (run) =>
        progress(
          `${rep}: ${run.who}, ${run.what}, ${run.atOnce} at once: ${round(run.perSecond)}/s, ${round(run.cpu.totalUs)} us each, foreign cores ${round(run.cpu.foreignCores)}`,
        ),
      )),
    );
  }

  async function repeat<Run>(once: (rep: string, runs: Run[]) => Promise<void>): Promise<Run[]> {
    const runs: Run[] = [];
    for (let rep = 1; rep <= options.reps; rep++) await once(`${rep}/${options.reps}`, runs);
    return runs;
  }
}
