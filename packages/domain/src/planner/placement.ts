import { isModel, type Resources } from '../resources.ts';
import type { FreeDevice } from './worker.ts';

/** Which of the devices and workers that fit are taken: the first, those with the least left over, or the most. */
export const PLACEMENTS = ['first_fit', 'best_fit', 'worst_fit'] as const;
export type Placement = (typeof PLACEMENTS)[number];
export const DEFAULT_PLACEMENT: Placement = 'best_fit';

/** Whether a device is one of those that these resources ask for. */
export function isFitting(device: Pick<FreeDevice, 'model' | 'memoryBytes'>, resources: Resources): boolean {
  return device.memoryBytes >= resources.gpuMemoryBytes && isModel(device.model, resources.gpuModel);
}

/**
 * Devices of one worker, as many as are asked for; null: it has too few. Those in `preferred` go first, then it is as the placement
 * says, by memory; among equals the order that they come in.
 */
export function chooseDevices(
  free: readonly FreeDevice[],
  resources: Resources,
  placement: Placement,
  preferred: readonly string[] = [],
): readonly FreeDevice[] | null {
  if (resources.gpus === 0) return [];
  const fitting = free.filter((device) => isFitting(device, resources));
  if (fitting.length < resources.gpus) return null;
  const rank = (device: FreeDevice) =>
    placement === 'first_fit' ? 0 : placement === 'best_fit' ? device.memoryBytes : -device.memoryBytes;
  const isPreferred = (device: FreeDevice) => (preferred.includes(device.uuid) ? 0 : 1);
  return fitting.toSorted((a, b) => isPreferred(a) - isPreferred(b) || rank(a) - rank(b)).slice(0, resources.gpus);
}

/**
 * What would be left over on a worker, dearest first: memory of the devices given that is not asked for, devices that stay free, then
 * memory and CPUs.
 */
export function leftOver(
  worker: { cpus: number; memoryBytes: number; devices: readonly FreeDevice[] },
  resources: Resources,
  chosen: readonly FreeDevice[],
): readonly number[] {
  const bytes = (devices: readonly FreeDevice[]) => devices.reduce((sum, device) => sum + device.memoryBytes, 0);
  return [
    bytes(chosen) - chosen.length * resources.gpuMemoryBytes,
    bytes(worker.devices) - bytes(chosen),
    worker.memoryBytes - resources.memoryBytes,
    worker.cpus - resources.cpus,
  ];
}

/** Below 0: the first is the better place. */
export function comparePlaces(placement: Placement, a: readonly number[], b: readonly number[]): number {
  if (placement === 'first_fit') return 0;
  for (const [i, left] of a.entries()) {
    const order = left - b[i]!;
    if (order !== 0) return placement === 'best_fit' ? order : -order;
  }
  return 0;
}
