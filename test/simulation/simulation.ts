import { model, seededRandom } from '@baton/store/testing';
import { checkHistory } from '@baton/testkit/history';
import { checkEnd } from './check-end.ts';
import { Client } from './client.ts';
import { type FaultKind, planFaults } from './faults.ts';
import { historyOf } from './history.ts';
import { Inflict } from './inflict.ts';
import { Kernel, Machine } from './kernel.ts';
import { FAIR, Network } from './network.ts';
import { ABILITIES, LANES, planErrands } from './plan.ts';
import { BEGINNING_MS, CALM, Postgres } from './postgres.ts';
import { Recorder, type Violation } from './recorder.ts';
import { DEFECTS, type Defect, type World } from './world.ts';

/** What may be broken on purpose: a guard of the store, or a rule of masters and workers. */
export const MUTATIONS = [...model.OMISSIONS, ...DEFECTS] as const;
export type Mutation = (typeof MUTATIONS)[number];

export interface SimulationOptions {
  seed: number;
  mutation?: Mutation | undefined;
  /** Checks the whole history, too. Costs as much again as the seed itself. */
  history?: boolean | undefined;
  trace?: ((atMs: number, what: string) => void) | undefined;
}

export interface SimulationResult {
  seed: number;
  violations: Violation[];
  tasks: number;
  faults: Partial<Record<FaultKind, number>>;
  /** What was really exercised, by name. */
  counts: Record<string, number>;
  /** Virtual time, ms. */
  virtualMs: number;
}

const TASKS = 200;
const SAFETY_MS = 26_000;
/** After the last fault all is settled within this time: a lease, retries, and tasks that take their workers with them. */
const LIVENESS_MS = 90_000;
const MASTERS = ['master1', 'master2'];

/** One seed: masters, workers, clients and faults for half a minute, then all is healed and must come to its end. */
export function simulate(options: SimulationOptions): SimulationResult {
  const { seed, mutation, trace } = options;
  const random = seededRandom(seed);
  const kernel = new Kernel();
  const network = new Network(kernel, random);
  const omitted = model.OMISSIONS.filter((omission) => omission === mutation);
  const postgres = new Postgres(kernel, random, network, omitted);
  const recorder = new Recorder();
  if (trace) recorder.trace = (atMs, what) => trace(atMs - BEGINNING_MS, what);
  let nodes = 0;
  const world: World = {
    kernel,
    random,
    network,
    postgres,
    recorder,
    lanes: LANES,
    defects: new Set(DEFECTS.filter((defect): defect is Defect => defect === mutation)),
    masters: new Map(),
    masterPlaces: MASTERS,
    acts: new Map(),
    nextNode: () => nodes++,
  };
  for (const { id } of LANES) postgres.db.addLane({ id, routeId: id, namespaceId: 1 });
  const inflict = new Inflict(world, ABILITIES);
  const clients = [1, 2, 3].map((n) => new Client(world, new Machine(kernel, `client${n}`)));
  for (const errand of planErrands(random, TASKS, SAFETY_MS)) random.pick(clients).run(errand);
  const plan = planFaults(random, SAFETY_MS);
  for (const fault of plan) kernel.at(fault.atMs, () => inflict.begin(fault));

  kernel.run(SAFETY_MS);
  network.weather = FAIR;
  postgres.weather = CALM;
  inflict.healAll();
  const isSettled = () => clients.every((client) => client.open === 0) && nothingLeft(postgres.db);
  while (!isSettled() && kernel.nowMs < SAFETY_MS + LIVENESS_MS) kernel.run(kernel.nowMs + 500);
  if (options.history) {
    const report = checkHistory(historyOf(world, { livenessMs: LIVENESS_MS, isSettled: isSettled() }));
    // That enough was tried is for all seeds together to show.
    for (const { invariant, violations } of report.results)
      if (invariant !== 17)
        for (const { message } of violations) recorder.violate(postgres.db, invariant, `checkHistory: ${message}`);
  }
  checkEnd(world, { isSettled: isSettled(), openErrands: clients.reduce((sum, client) => sum + client.open, 0) });

  const faults: Partial<Record<FaultKind, number>> = {};
  for (const { kind } of plan) faults[kind] = (faults[kind] ?? 0) + 1;
  return {
    seed,
    violations: recorder.violations,
    tasks: postgres.db.tasks.size,
    faults,
    counts: { ...recorder.counts, ...network.counts, ...postgres.counts, ...inflict.counts, ...ends(world) },
    virtualMs: kernel.nowMs,
  };
}

function nothingLeft(db: model.ModelDatabase): boolean {
  for (const task of db.tasks.values()) if (task.outcomes.length === 0) return false;
  for (const session of db.sessions.values()) if (session.leases.size > 0) return false;
  return true;
}

function ends({ postgres, recorder, kernel }: World): Record<string, number> {
  const counts: Record<string, number> = { events: kernel.happened };
  const add = (name: string) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  for (const task of postgres.db.tasks.values()) {
    add(task.state);
    for (const attempt of task.attempts) add(`attempt ${attempt.state}`);
  }
  for (const { outcome } of recorder.operations) add(`operation ${outcome}`);
  for (const { outcome } of recorder.calls) add(`result ${outcome}`);
  return counts;
}
