import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_HISTORY_SETTINGS, type History, readDatabase } from '@baton/testkit/history';
import { checkWorkflows } from './check-workflows.ts';
import { type Line, openBaton } from './client.ts';
import { BREAKER, type Cluster, LEASE_TTL_MS, startCluster } from './cluster.ts';
import { readEffects, readSteps } from './effects.ts';
import { FAULTS } from './faults/index.ts';
import { effectsOf, historyText } from './history.ts';
import { startLoad } from './load.ts';
import type { ChaosOptions } from './options.ts';
import { watchOutages } from './outages.ts';
import { createRandom } from './random.ts';
import { openRaw } from './raw-call.ts';
import { startRawWorker } from './raw-worker.ts';
import { createRecorder, nowMs } from './recorder.ts';
import { type ChaosReport, reportOf } from './report.ts';
import { openWork, waitUntilSettled } from './settle.ts';
import { checkSignals } from './signals.ts';
import { startStaleCaller } from './stale-caller.ts';
import { storm } from './storm.ts';
import { drawTimetable } from './timetable.ts';
import { startWatcher } from './watcher.ts';
import { WORKFLOWS } from './workflows.ts';

const CLIENTS = 4;
const RAW_WORKERS = 2;
/** All must be over so long after the last fault; waited for twice that, to see by how much it is missed. */
const LIVENESS_MS = 60_000;
/** Ends of tasks: succeeded, failed, cancelled. */
const ENDS = [5, 6, 7];

/** One run: storm, healing, settling, checking. `interrupted` rejects when it is to end early. */
export async function runChaos(
  options: ChaosOptions,
  log: (line: string) => void,
  interrupted: Promise<never>,
): Promise<ChaosReport> {
  const home = await mkdtemp(join(tmpdir(), 'baton-chaos-'));
  log(`seed ${options.seed}, logs in ${home}`);
  const owned: Cluster[] = [];
  let keep = true;
  try {
    const report = await Promise.race([interrupted, inHome(options, home, log, (cluster) => owned.push(cluster))]);
    keep = options.keep || report.failed;
    return { ...report, logs: keep ? home : null };
  } finally {
    // Here and not in the run itself, which goes on when it is interrupted.
    for (const cluster of owned) await cluster.stop();
    if (!keep) await rm(home, { recursive: true, force: true });
  }
}

async function inHome(
  options: ChaosOptions,
  home: string,
  log: (line: string) => void,
  own: (cluster: Cluster) => void,
): Promise<ChaosReport> {
  const random = createRandom(options.seed);
  const recorder = createRecorder();
  const loadMs = options.minutes * 60_000;
  const { masters, workers } = options;
  const cluster = await startCluster({ home, masters, workers, clients: CLIENTS, random: random.fork('wires') });
  own(cluster);
  const beganMs = nowMs();
  log(`${masters} masters and ${workers} workers serve`);

  const front = openBaton(cluster.frontDoor.url);
  for (const workflow of WORKFLOWS) await front.workflows.apply(workflow);
  const outagesUntilNow = watchOutages(cluster.sql);
  const rawMasters = cluster.rawLinks.map(({ url }) => openRaw(url));
  const rawWorkers = Array.from({ length: RAW_WORKERS }, (_, i) =>
    startRawWorker({ name: `raw${i + 1}`, masters: rawMasters, recorder, random: random.fork(`raw-${i}`) }),
  );
  const stopStaleCaller = startStaleCaller({
    cluster,
    masters: rawMasters,
    workers: rawWorkers,
    recorder,
    random: random.fork('stale'),
  });
  const watchFrom = (name: string, i: number, types: readonly number[] | null, sinceMs?: number) =>
    startWatcher({
      name,
      url: cluster.clientLinks[i % CLIENTS]!.url,
      types,
      taskIds: null,
      sinceMs,
      random: random.fork(name),
      onWrong: (what) => recorder.wrong.push(what),
    });
  const watchers = [
    watchFrom('all from the beginning', 0, null, beganMs - 60_000),
    watchFrom('ends from the beginning', 1, ENDS, beganMs - 60_000),
    watchFrom('all from now', 2, null),
  ];

  const load = startLoad(cluster, recorder, random.fork('load'), loadMs);
  const timetable = drawTimetable(FAULTS, random.fork('timetable'), loadMs);
  let faultOps = 0;
  const line: Line = {
    name: 'fault',
    baton: front,
    other: front,
    random: random.fork('fault'),
    recorder,
    known: { tasks: [], runs: [] },
    endsSoon: false,
    nextOp: () => `fault-${++faultOps}`,
  };
  const loadedFor = new Promise((resolve) => setTimeout(resolve, loadMs));
  const stormed = await storm({ cluster, line }, timetable, random.fork('storm'), log);
  await cluster.heal();
  for (const worker of rawWorkers) worker.calmDown();
  const lastFaultAtMs = nowMs();
  log('healed');
  await loadedFor;
  await load.stop();
  const settledAtMs = await waitUntilSettled(cluster.sql, 2 * LIVENESS_MS, log);
  const settleSeconds = settledAtMs === undefined ? null : (settledAtMs - lastFaultAtMs) / 1_000;
  log(settleSeconds === null ? 'not settled' : `settled ${settleSeconds.toFixed(1)} s after the last fault`);
  const watched = await Promise.all(watchers.map((watcher) => watcher.finish(20_000)));
  await stopStaleCaller();
  await Promise.all(rawWorkers.map((worker) => worker.stop()));
  const outages = await outagesUntilNow();
  const open = await openWork(cluster.sql);

  const database = await readDatabase(cluster.postgres.url);
  const history: History = {
    settings: {
      ...DEFAULT_HISTORY_SETTINGS,
      leaseTtlMs: LEASE_TTL_MS,
      breaker: BREAKER,
      livenessMs: LIVENESS_MS,
      lastFaultAtMs,
      settledAtMs: settledAtMs ?? nowMs(),
      outages,
      expectedFaults: [...new Set(timetable.flatMap(({ fault }) => (fault.optional ? [] : [fault.name])))],
    },
    database,
    operations: recorder.operations,
    calls: recorder.calls,
    effects: effectsOf(
      readEffects(cluster.ledgerFile),
      database,
      cluster.workers.map(({ program }) => program.lives),
    ),
    watchers: watched,
    faults: stormed.fired,
  };
  log('checking');
  const workflows = await checkWorkflows(cluster.sql, readSteps(cluster.ledgerFile));
  recorder.wrong.push(...workflows.wrong);
  log(
    `${workflows.fans} fan-outs and ${workflows.functions} functions gave what they should, ${workflows.steps} steps journaled, ${workflows.again} begun again`,
  );
  const signals = await checkSignals(cluster.sql, recorder.signals);
  recorder.wrong.push(...signals.wrong);
  log(`${signals.relays} functions took ${signals.taken} of ${recorder.signals.length} signals`);
  const counts = { ...workflows, ...signals, wrong: undefined };
  if (options.minutes >= 1 && [workflows.fans, workflows.functions, workflows.steps, signals.taken].includes(0))
    recorder.wrong.push(`vacuous: ${JSON.stringify(counts)}`);
  const report = reportOf({ options, recorder, history, load, stormed, settleSeconds, open });
  // By it a failure can be looked at when the database is gone.
  if (report.failed || options.keep) await writeFile(join(home, 'history.json'), historyText(history));
  return report;
}
