import { type Failure, isGpuClass } from '@baton/domain';
import { type Lane, livingMachines, readSession } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';
import { type Ability, type Capabilities, canDo, largestGpuBytes, toAbility } from './ability.ts';
import type { LaneBook } from './lane-book.ts';
import { type MemoryFloor, memoryFloorTag, memoryText } from './memory-floor.ts';

/** Where a task that ran out of memory goes on, or why nowhere. */
export type BiggerMachine = { laneId: number } | { none: string };

/** A lease whose task ran out of memory. */
export interface Starved {
  laneId: number;
  sessionId: string;
}

/**
 * The lane of the same task with one more demand: more memory than the machine that failed has. Class gpu: the memory of the device that
 * the failure names, or of the largest. Asked once in a task's life, so it reads what it needs.
 */
export async function biggerMachine(
  env: EngineEnvironment,
  lanes: LaneBook,
  lease: Starved,
  failure: Failure,
): Promise<BiggerMachine> {
  const { api } = env.pools;
  if (!lanes.get(lease.laneId)) await persist(() => lanes.refresh(), env.random);
  const lane = lanes.get(lease.laneId)!;
  const failed = await machineOf(env, lease.sessionId);
  const floor = floorAbove(lane, failed, failure);
  const demanding = await persist(
    () => lanes.laneFor({ ...lane, tags: [...new Set([...lane.tags, memoryFloorTag(floor)])].sort() }),
    env.random,
  );
  const machines = await persist(() => livingMachines(api, lane.namespaceId), env.random);
  const able = machines
    .map((m) => toAbility({ ...m, capabilities: m.capabilities as Capabilities }))
    .filter((ability) => canDo(ability, lane));
  if (able.some((ability) => canDo(ability, demanding))) return { laneId: demanding.id };
  const largest = able.reduce<Ability | null>((a, b) => (a && memoryOf(a, floor) >= memoryOf(b, floor) ? a : b), null);
  const what = floor.of === 'memory' ? '' : ' of GPU memory';
  return {
    none: largest
      ? `no living worker that could take it has more than ${memoryText(floor.bytes)}${what}; the largest is ${largest.workerName} with ${memoryText(memoryOf(largest, floor))}`
      : 'no other living worker could take it',
  };
}

/** What to say of a task that ran out of memory again. */
export async function ranOutAgain(env: EngineEnvironment, lease: Starved): Promise<string> {
  const failed = await machineOf(env, lease.sessionId);
  const where = failed ? ` (${failed.workerName}: ${memoryText(failed.memoryBytes)}${gpuText(failed)})` : '';
  return `it ran out of memory again on a bigger machine${where}; it is not tried a third time`;
}

async function machineOf(env: EngineEnvironment, sessionId: string): Promise<Ability | null> {
  const session = await persist(() => readSession(env.pools.api, sessionId), env.random);
  return session && toAbility({ ...session, capabilities: session.capabilities as Capabilities });
}

function floorAbove(lane: Lane, failed: Ability | null, failure: Failure): MemoryFloor {
  if (isGpuClass(lane.taskClass) && failed && failed.gpus.length > 0) {
    const device = failed.gpus.find((gpu) => gpu.uuid === failure.device);
    return { of: 'gpu_memory', bytes: device?.memoryBytes ?? largestGpuBytes(failed.gpus) };
  }
  return { of: 'memory', bytes: failed?.memoryBytes ?? 0 };
}

function memoryOf(ability: Ability, floor: MemoryFloor): number {
  return floor.of === 'memory' ? ability.memoryBytes : largestGpuBytes(ability.gpus);
}

function gpuText(ability: Ability): string {
  return ability.gpus.length > 0 ? `, GPU ${memoryText(largestGpuBytes(ability.gpus))}` : '';
}
