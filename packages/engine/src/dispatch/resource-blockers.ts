import type { Needs, Resources, Shortage } from '@baton/domain';
import { shortageName, shortages } from '@baton/domain';
import {
  type BusyWorker,
  type DeviceKey,
  type Lane,
  readHeldDevices,
  readLeasesWithNeeds,
  type Sql,
} from '@baton/store';
import { listOf } from './blocker-words.ts';
import type { Ability } from './capabilities.ts';
import { memoryText } from './memory-floor.ts';
import { laneFit } from './needs.ts';
import { deviceKey } from './planned-claims.ts';

type Seen = Pick<BusyWorker, 'workerName' | 'sessionId'> & { ability: Ability };

/** A number that is larger than any living worker has. */
export interface TooLarge {
  message: string;
  missing: string[];
}

/**
 * Numbers of the lane's resources that no living worker could ever meet, whatever else it lacks; each with the most there is. Empty: each
 * of them is met by some worker, if not all by one.
 */
export function tooLarge(workers: readonly Seen[], lane: Lane): TooLarge[] {
  const resources = lane.needs?.resources;
  if (!resources) return [];
  const most = new Map<Shortage['of'], { shortage: Shortage; worker: string }>();
  const met = new Set<Shortage['of']>();
  for (const { ability, workerName } of workers) {
    const short = shortages({ ...ability, devices: ability.gpus }, resources);
    for (const of of NUMBERS) {
      const shortage = short.find((each) => each.of === of);
      if (!shortage) {
        // Of a worker without devices nothing is known of their memory.
        if (resources.gpus === 0 || of === 'cpus' || of === 'memory' || ability.gpus.length > 0) met.add(of);
      } else if (shortage.most > (most.get(of)?.shortage.most ?? -1)) most.set(of, { shortage, worker: workerName });
    }
  }
  return [...most].flatMap(([of, { shortage, worker }]) =>
    met.has(of) ? [] : [{ message: tooLargeText(shortage, worker), missing: [shortageName(shortage)] }],
  );
}

const NUMBERS = ['cpus', 'memory', 'gpus', 'gpu_model', 'gpu_memory'] as const;

function tooLargeText({ of, asked, most, model }: Shortage, worker: string): string {
  const on = most > 0 ? ` (${worker})` : '';
  if (of === 'cpus') return `it asks for ${asked} CPUs, and the most that a worker has is ${most}${on}`;
  if (of === 'gpus') return `it asks for ${asked} GPUs, and the most there are on one worker is ${most}${on}`;
  if (of === 'gpu_model')
    return `it asks for ${asked} GPUs of the model ${model}, and the most there are on one worker is ${most}${on}`;
  const what = of === 'memory' ? 'memory' : 'GPU memory on each device';
  return `it asks for ${memoryText(asked)} of ${what}, and the largest there is has ${most > 0 ? memoryText(most) : 'none'}${on}`;
}

/** Why a worker that could take the lane's tasks has no room for one now, beside slots; undefined: it has. */
export async function noRoom(sql: Sql, workers: readonly Seen[], lane: Lane): Promise<Map<string, string>> {
  const answers = new Map<string, string>();
  const wanting = workers.filter(({ ability }) => laneFit(ability, lane).resources);
  if (wanting.length === 0) return answers;
  const keys = wanting.flatMap(({ ability }) =>
    [...laneFit(ability, lane).devices].map((uuid) => deviceKey(ability, uuid)),
  );
  const [held, busy] = await Promise.all([
    keys.length > 0 ? readHeldDevices(sql, keys) : [],
    readLeasesWithNeeds(
      sql,
      wanting.map((worker) => worker.sessionId),
    ),
  ]);
  const text = ({ scope, uuid }: DeviceKey) => `${scope}/${uuid}`;
  const holders = new Map(held.map((device) => [text(device), device.taskId]));
  for (const { ability, sessionId } of wanting) {
    const { resources, devices } = laneFit(ability, lane);
    const used = sum(busy.filter((each) => each.sessionId === sessionId));
    const fitting = ability.gpus.filter((gpu) => devices.has(gpu.uuid));
    const taken = fitting.flatMap((gpu) => {
      const taskId = holders.get(text(deviceKey(ability, gpu.uuid)));
      return taskId ? [`${gpu.uuid} by task ${taskId}`] : [];
    });
    const free = fitting.filter(
      (gpu) => !holders.has(text(deviceKey(ability, gpu.uuid))) && !ability.quarantinedDevices.includes(gpu.uuid),
    );
    const cpus = ability.cpus - used.cpus;
    const memoryBytes = ability.memoryBytes - used.memoryBytes;
    const short = shortages({ cpus, memoryBytes, devices: free }, resources!).map((shortage) => {
      if (shortage.of === 'cpus') return `${cpus} of ${ability.cpus} CPUs are free, and it needs ${shortage.asked}`;
      if (shortage.of === 'memory')
        return `${memoryText(Math.max(0, memoryBytes))} of ${memoryText(ability.memoryBytes)} are free, and it needs ${memoryText(shortage.asked)}`;
      const by = taken.length > 0 ? `; held: ${listOf(taken.slice(0, 4))}` : '';
      return `${free.length} of ${fitting.length} devices that fit are free, and it needs ${resources!.gpus}${by}`;
    });
    if (short.length > 0) answers.set(sessionId, [...new Set(short)].join('; '));
  }
  return answers;
}

function sum(held: readonly { needs: Needs; count: number }[]): Pick<Resources, 'cpus' | 'memoryBytes'> {
  const total = { cpus: 0, memoryBytes: 0 };
  for (const { needs, count } of held) {
    total.cpus += (needs.resources?.cpus ?? 0) * count;
    total.memoryBytes += (needs.resources?.memoryBytes ?? 0) * count;
  }
  return total;
}
