import { type ExecutorType, Refusal, type TaskClass } from '@baton/domain';
import type { Lane } from '@baton/store';
import { memoryFloor } from './memory-floor.ts';

/** What a worker says of itself, kept as it said it. */
export interface Capabilities {
  taskClasses: TaskClass[];
  tags: string[];
  executors: ExecutorType[];
  kinds: string[];
  queues: string[];
  slots: number;
  /** Of the machine; 0 or absent: not said. */
  memoryBytes?: number;
  gpus?: { uuid: string; memoryBytes: number; [more: string]: unknown }[];
  [more: string]: unknown;
}

/** What a session can do, as it matters for lanes. */
export interface Ability {
  namespaceId: number;
  workerId: number;
  workerName: string;
  taskClasses: readonly TaskClass[];
  tags: readonly string[];
  executors: readonly ExecutorType[];
  kinds: readonly string[];
  /** Empty: all. */
  queues: readonly string[];
  /** 0: not known. */
  memoryBytes: number;
  gpus: readonly { uuid: string; memoryBytes: number }[];
  /** UUIDs of devices that no task may use now. */
  readonly quarantinedDevices: readonly string[];
}

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
    memoryBytes: capabilities.memoryBytes ?? 0,
    gpus,
    get quarantinedDevices() {
      return quarantined(workerId);
    },
  };
}

/** The tag that every worker has of itself: a task that asks for it is for this worker alone. */
export function ownTag(workerName: string): string {
  return `worker:${workerName.toLowerCase()}`;
}

/** Whether this worker can do this lane's tasks. */
export function canDo(ability: Ability, lane: Lane): boolean {
  return (
    ability.namespaceId === lane.namespaceId &&
    ability.executors.includes(lane.executor) &&
    ability.taskClasses.includes(lane.taskClass) &&
    (lane.executor !== 'function' || ability.kinds.includes(lane.kind)) &&
    (ability.queues.length === 0 || ability.queues.includes(lane.queue)) &&
    lane.tags.every((tag) => hasTag(ability, tag)) &&
    !(isGpuClass(lane.taskClass) && allQuarantined(ability))
  );
}

export function isGpuClass(taskClass: TaskClass): boolean {
  return taskClass === 'gpu' || taskClass === 'gpu_slurm';
}

/** Tags with a meaning of their own are never had by saying so. */
export function hasTag(ability: Ability, tag: string): boolean {
  const floor = memoryFloor(tag);
  if (!floor) return ability.tags.includes(tag) || tag === ownTag(ability.workerName);
  return (floor.of === 'memory' ? ability.memoryBytes : largestGpuBytes(ability.gpus)) > floor.bytes;
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
  const reserved = tags.filter((tag) => memoryFloor(tag.toLowerCase()));
  if (reserved.length === 0) return;
  const description = `reserved: ${reserved.join(', ')}; a worker's memory is known from its capabilities`;
  throw new Refusal('invalid_argument', 'INVALID_REQUEST', `capabilities.tags: ${description}`, {
    violations: [{ field: 'capabilities.tags', description }],
  });
}
