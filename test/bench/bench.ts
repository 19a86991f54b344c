import { measureArtifacts } from './artifacts.ts';
import { measureDrain } from './drain.ts';
import { measureExecutors } from './executors.ts';
import { type FunctionRun, measureFunctions } from './functions.ts';
import { measureGaps } from './gap.ts';
import { measureLatency } from './latency.ts';
import { readMachine } from './machine.ts';
import type { BenchOptions } from './options.ts';
import {
  type Report,
  summarizeArtifacts,
  summarizeDrain,
  summarizeExecutors,
  summarizeFunctions,
  summarizeGaps,
  summarizeLatency,
  summarizeSizes,
  summarizeSubmits,
  summarizeWorkflows,
} from './report.ts';
import { openServer } from './server.ts';
import { measureSizes } from './sizes.ts';
import { round } from './statistics.ts';
import { measureSubmits } from './submit.ts';
import { measureWorkflows, type WorkflowRun } from './workflows.ts';

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
  return {
    bench: options.bench,
    at,
    machine,
    postgres: { source, version, settings },
    repetitions: options.reps,
    results: await Promise.race([measure(), interrupted]),
  };

  async function measure(): Promise<Report['results']> {
    switch (options.bench) {
      case 'drain':
        return summarizeDrain(
          await repeat(async (rep, runs) => {
            for (const workers of options.workers)
              for (const slots of options.concurrency) {
                const run = await measureDrain(server, options, { workers, slots });
                runs.push(run);
                progress(
                  `${rep}: ${workers} workers of ${slots} slots: ${round(run.tasksPerSecond)} tasks/s, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                );
              }
          }),
        );
      case 'submit':
        return summarizeSubmits(
          await repeat(async (rep, runs) => {
            runs.push(
              ...(await measureSubmits(server, options, (run) =>
                progress(
                  `${rep}: ${run.way}, ${run.atOnce} at once: ${round(run.tasksPerSecond)} tasks/s, ${round(run.cpu.totalUs)} us a task, foreign cores ${round(run.cpu.foreignCores)}`,
                ),
              )),
            );
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
      case 'latency':
        return summarizeLatency(
          await repeat(async (rep, runs) => {
            for (const slots of options.concurrency) {
              const run = await measureLatency(server, options, slots);
              runs.push(run);
              progress(
                `${rep}: ${slots} slots: start p50 ${run.startMs.p50} ms, p99 ${run.startMs.p99} ms, result p50 ${run.resultMs.p50} ms, foreign cores ${round(run.cpu.foreignCores)}`,
              );
            }
          }),
        );
    }
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
