import {
  completeResources,
  ExpressionError,
  type FieldViolation,
  GPU_CLASS_RESOURCES,
  hasTool,
  isModel,
  type JsonObject,
  type Needs,
  needsOf,
  osName,
  type Requirements,
  type ResourceRequest,
  type Resources,
  requirementViolations,
  resourceViolations,
  shortageName,
  shortages,
  type TaskClass,
} from '@baton/domain';
import { createSelectors } from '@baton/expressions';
import type { Lane } from '@baton/store';
import type { Ability } from './capabilities.ts';

/** The selectors of all lanes: it keeps nothing but what it has parsed. */
export const selectors = createSelectors();

/** What a request says of resources and requirements, and its class. */
export interface NeedsRequest {
  taskClass?: TaskClass;
  resources?: ResourceRequest;
  requirements?: Requirements;
}

/** All that is wrong with what a task asks of its worker, each at its place. */
export function needsViolations({ resources, requirements }: NeedsRequest): FieldViolation[] {
  const violations = resources ? resourceViolations(resources, 'task.resources') : [];
  if (!requirements) return violations;
  violations.push(...requirementViolations(requirements, 'task.requirements'));
  const { selector } = requirements;
  const checked = selector ? selectors.check(selector) : undefined;
  if (checked && !checked.ok) {
    const where = checked.offset === undefined ? '' : ` (character ${checked.offset + 1})`;
    const hint = checked.hint ? `; ${checked.hint}` : '';
    violations.push({
      field: 'task.requirements.selector',
      description: `is not sound: ${checked.message}${where}${hint}`,
    });
  }
  return violations;
}

/** In the one form that lanes are told apart by; null: nothing is asked for. The request was checked. */
export function needsOfRequest({ taskClass, resources, requirements }: NeedsRequest): Needs | null {
  if (!resources && !requirements) return null;
  return needsOf(resources ? completeResources(resources, taskClass ?? 'cpu_short') : null, requirements ?? {});
}

/** A request that asks for these needs again. */
export function requestedNeeds(needs: Needs | null): Pick<NeedsRequest, 'resources' | 'requirements'> {
  if (!needs) return {};
  const { resources, ...requirements } = needs;
  return { ...(resources && { resources }), ...(Object.keys(requirements).length > 0 && { requirements }) };
}

/**
 * What each of a lane's tasks takes up beside a slot; null: nothing. Class gpu means a device also where no resources are asked for. A
 * worker of a cluster (class gpu_slurm) is given its devices by that, so these tasks ask for some only by saying so.
 */
export function resourcesOf(lane: Pick<Lane, 'needs' | 'taskClass'>): Resources | null {
  return lane.needs?.resources ?? (lane.taskClass === 'gpu' ? GPU_CLASS_RESOURCES : null);
}

/** How a worker's machine and a lane's needs go together, whatever is free now. */
export interface LaneFit {
  /** By stable names; empty: nothing. */
  readonly missing: readonly string[];
  /** UUIDs of the devices that its tasks may use. */
  readonly devices: ReadonlySet<string>;
  /** What each of its tasks takes up here beside a slot; null: nothing. */
  readonly resources: Resources | null;
}

const FITS: LaneFit = { missing: [], devices: new Set(), resources: null };
const known = new WeakMap<Ability, WeakMap<Lane, LaneFit>>();

/** Worked out once for each session and lane. */
export function laneFit(ability: Ability, lane: Lane): LaneFit {
  if (!lane.needs && lane.taskClass !== 'gpu') return FITS;
  let lanes = known.get(ability);
  if (!lanes) {
    lanes = new WeakMap();
    known.set(ability, lanes);
  }
  let fit = lanes.get(lane);
  if (!fit) {
    fit = workOut(ability, lane);
    lanes.set(lane, fit);
  }
  return fit;
}

function workOut(ability: Ability, lane: Lane): LaneFit {
  const { os, tools, selector } = lane.needs ?? {};
  const missing: string[] = [];
  if (os && !os.includes(osName(ability.os))) missing.push(`os:${os.join('|')}`);
  for (const tool of tools ?? []) if (!hasTool(ability.tools, tool)) missing.push(`tool:${tool}`);
  let gpus = ability.gpus;
  if (selector) {
    const asksForDevice = selectors.asksForDevice(selector);
    if (asksForDevice) gpus = gpus.filter((gpu) => isMeant(selector, ability, gpu));
    if (asksForDevice ? gpus.length === 0 : !isMeant(selector, ability, null)) missing.push(`selector:${selector}`);
  }
  const resources = resourcesOf(lane);
  if (!resources) return { ...FITS, missing };
  // A worker without devices that takes the class hands the work on, as one that runs on a cluster's head does; and one that says
  // nothing of its machine is taken for able where only the class asks for a device.
  const handsOn = ability.gpus.length === 0 && (lane.taskClass === 'gpu_slurm' || !lane.needs?.resources);
  if (handsOn && !lane.needs?.resources) return { ...FITS, missing };
  if (lane.needs?.resources && ability.protocolVersion < RESOURCES_PROTOCOL)
    missing.push(`protocol>${RESOURCES_PROTOCOL - 1}`);
  const taken = handsOn ? { ...resources, gpus: 0, gpuMemoryBytes: 0, gpuModel: '' } : resources;
  const capacity = { cpus: ability.cpus, memoryBytes: ability.memoryBytes, devices: gpus };
  missing.push(...shortages(capacity, taken).map(shortageName));
  const fitting = gpus.filter((gpu) => gpu.memoryBytes >= taken.gpuMemoryBytes && isModel(gpu.model, taken.gpuModel));
  return { missing, devices: new Set(fitting.map((gpu) => gpu.uuid)), resources: taken };
}

/** The first that knows resources. A worker that speaks an older one would pass over its devices. */
export const RESOURCES_PROTOCOL = 4;

function isMeant(selector: string, ability: Ability, gpu: Ability['gpus'][number] | null): boolean {
  try {
    return selectors.matches(selector, workerView(ability), gpu && gpuView(gpu));
  } catch (error) {
    // It has no value for this worker: a key that is not there, types that do not fit. Then this worker is not meant.
    if (error instanceof ExpressionError) return false;
    throw error;
  }
}

const GIB = 2 ** 30;
const gib = (bytes: number) => Math.round((bytes / GIB) * 100) / 100;

function gpuView(gpu: Ability['gpus'][number]): JsonObject {
  const { uuid, model, memoryBytes, simulated, mig } = gpu;
  return { uuid, model, memory_gib: gib(memoryBytes), simulated, mig };
}

function workerView(ability: Ability): JsonObject {
  return {
    name: ability.workerName,
    os: osName(ability.os),
    arch: ability.arch,
    hostname: ability.hostname,
    cpus: ability.cpus,
    memory_gib: gib(ability.memoryBytes),
    slots: ability.slots,
    tags: [...ability.tags],
    tools: Object.fromEntries(ability.tools.map(({ name, version }) => [name.toLowerCase(), version])),
    task_classes: [...ability.taskClasses],
    kinds: [...ability.kinds],
    queues: [...ability.queues],
    gpus: ability.gpus.map(gpuView),
  };
}
