import type { Resources } from '../resources.ts';
import { chooseDevices, comparePlaces, leftOver, type Placement } from './placement.ts';
import { shortages } from './shortage.ts';
import { adaptiveScore, loadOf, type Strategy, taskOrder } from './strategy.ts';
import type { FreeDevice, OfferingWorker, PlannedGrant, ReadyTask } from './worker.ts';

/** Whether a worker may do a lane's tasks at all, and with what. */
export type Fit =
  | boolean
  | {
      /** What a task takes up there, where that is not what it says. */
      readonly resources?: Resources | null;
      /** Only these of the worker's devices. */
      readonly mayUse?: (uuid: string) => boolean;
    };

export interface PlanOptions {
  readonly strategy: Strategy;
  readonly placement: Placement;
  /** The hard requirements, to be asked for each worker and lane. */
  readonly fit: (worker: OfferingWorker, task: ReadyTask) => Fit;
  /** Of round_robin: the name of the worker that was given the last task; empty: none. */
  readonly last?: string;
}

export interface Plan {
  readonly grants: readonly PlannedGrant[];
  /** For the next plan. */
  readonly last: string;
}

const NOTHING: Resources = { cpus: 0, memoryBytes: 0, gpus: 0, gpuMemoryBytes: 0, gpuModel: '' };

/** A worker with what is left of it as the plan grows. */
interface Rest {
  readonly worker: OfferingWorker;
  readonly order: number;
  slots: number;
  resourceSlots: number;
  cpus: number;
  memoryBytes: number;
  devices: readonly FreeDevice[];
  busy: number;
}

interface Candidate {
  readonly rest: Rest;
  readonly resources: Resources | null;
  readonly chosen: readonly FreeDevice[];
  readonly left: readonly number[];
  /** It would wait there for its device. */
  readonly waits: boolean;
  /** 0: it keeps something ready for this kind, 1: its tasks of this kind had these devices last, 2: neither. */
  readonly nearness: number;
}

/**
 * Matches ready tasks and workers that ask for work. Pure: what it proposes is to be guarded by who carries it out.
 *
 * Tasks go in the strategy's order, each to the best of the workers that fit: first those where it starts now, then those that are warm for its kind or have the devices
 * that it had last, then by the strategy, then by the placement, then those that were named first. A task for which there is no place
 * now is passed over; a task's devices are all of one worker.
 */
export function plan(tasks: readonly ReadyTask[], workers: readonly OfferingWorker[], options: PlanOptions): Plan {
  const { strategy, placement, fit } = options;
  const rests: Rest[] = workers.map((worker, order) => ({
    worker,
    order,
    slots: worker.slots,
    resourceSlots: worker.resourceSlots,
    cpus: worker.cpus,
    memoryBytes: worker.memoryBytes,
    devices: worker.devices,
    busy: worker.busy,
  }));
  let last = options.last ?? '';
  const grants: PlannedGrant[] = [];
  /** What is free only becomes less: what found no place for one of its tasks finds none for the next. */
  const hopeless = new Set<number>();
  let slots = rests.reduce((sum, rest) => sum + rest.slots, 0);

  for (const task of tasks.toSorted(taskOrder(strategy))) {
    if (slots === 0) break;
    if (hopeless.has(task.laneId)) continue;
    let best: Candidate | undefined;
    for (const rest of rests) {
      const candidate = candidateOf(rest, task, placement, fit);
      if (candidate && (!best || compare(candidate, best) < 0)) best = candidate;
    }
    if (!best) {
      hopeless.add(task.laneId);
      continue;
    }
    const { rest, chosen, resources } = best;
    rest.slots--;
    slots--;
    rest.busy++;
    if (resources) {
      if (!best.waits) rest.resourceSlots--;
      rest.cpus -= resources.cpus;
      rest.memoryBytes -= resources.memoryBytes;
    }
    if (chosen.length > 0) rest.devices = rest.devices.filter((device) => !chosen.includes(device));
    last = rest.worker.name;
    grants.push({ taskId: task.id, workerId: rest.worker.id, devices: chosen.map((device) => device.uuid) });
  }
  return { grants, last };

  function compare(a: Candidate, b: Candidate): number {
    return (
      Number(a.waits) - Number(b.waits) ||
      a.nearness - b.nearness ||
      byStrategy(a.rest, b.rest) ||
      comparePlaces(placement, a.left, b.left) ||
      (strategy === 'priority' || strategy === 'work_stealing'
        ? a.rest.worker.completed - b.rest.worker.completed
        : 0) ||
      a.rest.order - b.rest.order
    );
  }

  function byStrategy(a: Rest, b: Rest): number {
    if (strategy === 'round_robin')
      return turn(a.worker.name) - turn(b.worker.name) || compareText(a.worker.name, b.worker.name);
    if (strategy === 'load_balancing') return loadOf(a.worker, a.busy) - loadOf(b.worker, b.busy);
    if (strategy === 'adaptive') return adaptiveScore(b.worker) - adaptiveScore(a.worker);
    return 0;
  }

  /** Whose name comes after the last one's is in this round, the others in the next. */
  function turn(name: string): number {
    return compareText(name, last) > 0 ? 0 : 1;
  }
}

function candidateOf(rest: Rest, task: ReadyTask, placement: Placement, fit: PlanOptions['fit']): Candidate | null {
  if (rest.slots === 0) return null;
  const fits = fit(rest.worker, task);
  if (fits === false) return null;
  const { resources: there, mayUse } = fits === true ? {} : fits;
  const taken = there === undefined ? task.resources : there;
  if (taken && shortages({ ...rest, devices: [] }, { ...taken, gpus: 0 }).length > 0) return null;
  const resources = taken ?? NOTHING;
  const devices = mayUse ? rest.devices.filter((device) => mayUse(device.uuid)) : rest.devices;
  const known = rest.worker.affinity.get(task.kind) ?? [];
  const choose = (isNext: boolean) => {
    const those = devices.filter((device) => (device.isNext ?? false) === isNext);
    return chooseDevices(those, resources, placement, known);
  };
  const free = taken && rest.resourceSlots <= 0 ? null : choose(false);
  // Whoever asks for several waits for none of them: those that are free already would idle meanwhile.
  const chosen = free ?? (resources.gpus === 1 ? choose(true) : null);
  if (!chosen) return null;
  const isNear = chosen.length > 0 && chosen.every((device) => known.includes(device.uuid));
  const nearness = rest.worker.warm.has(task.kind) ? 0 : isNear ? 1 : 2;
  return { rest, resources: taken, chosen, left: leftOver(rest, resources, chosen), waits: free === null, nearness };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
