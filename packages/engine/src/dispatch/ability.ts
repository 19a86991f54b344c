import { isGpuClass, Refusal } from '@baton/domain';
import { type Lane, NEEDS_TAG } from '@baton/store';
import { protocolFloor } from '../sessions/protocol.ts';
import type { Ability, Capabilities } from './capabilities.ts';
import { memoryFloor } from './memory-floor.ts';
import { laneFit } from './needs.ts';
import { isPreferenceTag } from './preference.ts';

export type { Ability, AbleDevice, Capabilities } from './capabilities.ts';

/** @param quarantined the devices of this worker that no task may use, as they are when it is asked */
export function toAbility(
  worker: { namespaceId: number; workerId: number; workerName: string; capabilities: Capabilities },
  quarantined: (workerId: number) => readonly string[] = () => [],
): Ability {
  const { namespaceId, workerId, workerName, capabilities } = worker;
  const { taskClasses = [], tags = [], executors = [], kinds = [], queues = [], gpus = [] } = capabilities;
  return {
    namespaceId,
    workerId,
    workerName,
    taskClasses: taskClasses.length > 0 ? taskClasses : ['cpu_short', 'cpu_long'],
    tags: tags.map((tag) => tag.toLowerCase()),
    executors,
    kinds,
    queues,
    protocolVersion: capabilities.protocolVersion ?? 1,
    memoryBytes: capabilities.memoryBytes ?? 0,
    cpus: capabilities.cpus ?? 0,
    os: capabilities.os ?? '',
    arch: capabilities.arch ?? '',
    hostname: capabilities.hostname ?? '',
    slots: capabilities.slots ?? 1,
    tools: capabilities.tools ?? [],
    gpus: gpus.map(({ uuid, memoryBytes, model = '', simulated = false, mig = false }) => ({
      uuid,
      model,
      memoryBytes,
      simulated,
      mig,
    })),
    get quarantinedDevices() {
      return quarantined(workerId);
    },
  };
}

/** The tag that every worker has of itself: a task that asks for it is for this worker alone. */
export function ownTag(workerName: string): string {
  return `worker:${workerName.toLowerCase()}`;
}

/** One thing that a lane asks of a worker. */
interface Demand {
  isMet(ability: Ability, lane: Lane): boolean;
  /** What is missing where it is not met, by its stable names: `tag:ssd`, `kind:resize`, `memory>68719476736`. */
  missing(ability: Ability, lane: Lane): string[];
}

/** All that lanes ask: the planner's one table, for finding work and for saying why there is none. Cheap and telling ones first. */
const DEMANDS: readonly Demand[] = [
  { isMet: (a, l) => a.executors.includes(l.executor), missing: (_, l) => [`executor:${l.executor}`] },
  { isMet: (a, l) => a.taskClasses.includes(l.taskClass), missing: (_, l) => [`task_class:${l.taskClass}`] },
  { isMet: (a, l) => l.executor !== 'function' || a.kinds.includes(l.kind), missing: (_, l) => [`kind:${l.kind}`] },
  { isMet: (a, l) => a.queues.length === 0 || a.queues.includes(l.queue), missing: (_, l) => [`queue:${l.queue}`] },
  {
    isMet: (a, l) => l.tags.every((tag) => hasTag(a, tag)),
    missing: (a, l) => l.tags.filter((tag) => !hasTag(a, tag)).map((tag) => (isReserved(tag) ? tag : `tag:${tag}`)),
  },
  { isMet: (a, l) => laneFit(a, l).missing.length === 0, missing: (a, l) => [...laneFit(a, l).missing] },
];

/** Whether this worker can do this lane's tasks. */
export function canDo(ability: Ability, lane: Lane): boolean {
  if (ability.namespaceId !== lane.namespaceId) return false;
  for (const demand of DEMANDS) if (!demand.isMet(ability, lane)) return false;
  return !lacksDevices(ability, lane);
}

/** What this worker would have to have for this lane's tasks and has not; empty: nothing. */
export function missingFor(ability: Ability, lane: Lane): string[] {
  return DEMANDS.flatMap((demand) => (demand.isMet(ability, lane) ? [] : demand.missing(ability, lane)));
}

/** The lane's tasks use devices, and fewer of this worker's may be used now than one of them needs. */
export function lacksDevices(ability: Ability, lane: Lane): boolean {
  if (isGpuClass(lane.taskClass) && allQuarantined(ability)) return true;
  const { resources, devices } = laneFit(ability, lane);
  if (!resources || resources.gpus === 0 || ability.quarantinedDevices.length === 0) return false;
  const usable = [...devices].filter((uuid) => !ability.quarantinedDevices.includes(uuid)).length;
  return usable < resources.gpus && devices.size >= resources.gpus;
}

/** Tags with a meaning of their own are never had by saying so. */
export function hasTag(ability: Ability, tag: string): boolean {
  if (ability.tags.includes(tag) && !isReserved(tag)) return true;
  if (isPreferenceTag(tag)) return true;
  const memory = memoryFloor(tag);
  if (memory) return (memory.of === 'memory' ? ability.memoryBytes : largestGpuBytes(ability.gpus)) > memory.bytes;
  const protocol = protocolFloor(tag);
  if (protocol !== null) return ability.protocolVersion > protocol;
  return tag === ownTag(ability.workerName);
}

/** Tags that Baton itself gives to lanes. */
export function isReserved(tag: string): boolean {
  return (
    tag.startsWith(NEEDS_TAG) ||
    isPreferenceTag(tag) ||
    (tag.includes('>') && (memoryFloor(tag) !== null || protocolFloor(tag) !== null))
  );
}

export function largestGpuBytes(gpus: Ability['gpus']): number {
  return gpus.reduce((most, gpu) => Math.max(most, gpu.memoryBytes), 0);
}

/** Devices that it has, and none that may be used. One without devices of its own (it hands the work on) is not meant. */
export function allQuarantined(ability: Ability): boolean {
  const { gpus, quarantinedDevices } = ability;
  return gpus.length > 0 && quarantinedDevices.length > 0 && gpus.every((gpu) => quarantinedDevices.includes(gpu.uuid));
}

/** @throws Refusal INVALID_REQUEST where a worker claims a tag that Baton itself gives */
export function checkWorkerTags(tags: readonly string[]): void {
  const reserved = tags.filter((tag) => isReserved(tag.toLowerCase()));
  if (reserved.length === 0) return;
  const description = `reserved: ${reserved.join(', ')}; a worker's memory, protocol and files are known without`;
  throw new Refusal('invalid_argument', 'INVALID_REQUEST', `capabilities.tags: ${description}`, {
    violations: [{ field: 'capabilities.tags', description }],
  });
}
