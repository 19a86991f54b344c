import { isModel, type Resources } from '../resources.ts';
import type { FreeDevice } from './worker.ts';

/** What a worker has in all, or free: the numbers that resources are held against. */
export interface Capacity {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly devices: readonly Pick<FreeDevice, 'model' | 'memoryBytes'>[];
}

/** One number that is too large, by its stable name, with what there is. */
export interface Shortage {
  readonly of: 'cpus' | 'memory' | 'gpus' | 'gpu_memory' | 'gpu_model';
  /** What is asked for. Of a model: how many devices of it. */
  readonly asked: number;
  readonly most: number;
  /** With gpu_model. */
  readonly model?: string;
}

/** Comparing sums of parts of cores. */
const ROUNDING = 1e-9;

/** Each number that is larger than what is there; empty: it fits. */
export function shortages(capacity: Capacity, resources: Resources): Shortage[] {
  const { cpus, memoryBytes, gpus, gpuMemoryBytes, gpuModel } = resources;
  const found: Shortage[] = [];
  if (cpus > capacity.cpus + ROUNDING) found.push({ of: 'cpus', asked: cpus, most: capacity.cpus });
  if (memoryBytes > capacity.memoryBytes) found.push({ of: 'memory', asked: memoryBytes, most: capacity.memoryBytes });
  if (gpus === 0) return found;
  const { devices } = capacity;
  if (devices.length < gpus) {
    found.push({ of: 'gpus', asked: gpus, most: devices.length });
    if (devices.length === 0) return found;
  }
  const ofModel = devices.filter((device) => isModel(device.model, gpuModel));
  const wanted = Math.min(gpus, devices.length);
  if (ofModel.length < wanted) {
    found.push({ of: 'gpu_model', asked: gpus, most: ofModel.length, model: gpuModel });
    if (ofModel.length === 0) return found;
  }
  const large = ofModel.filter((device) => device.memoryBytes >= gpuMemoryBytes);
  const least = Math.min(wanted, ofModel.length);
  if (large.length < least) {
    // So many devices are needed; the smallest of the largest ones is what there is.
    const memories = ofModel.map((device) => device.memoryBytes).sort((a, b) => b - a);
    found.push({ of: 'gpu_memory', asked: gpuMemoryBytes, most: memories[least - 1]! });
  }
  return found;
}

/** By its stable name: `cpus>=8`, `gpu_memory>=42949672960`, `gpu_model:h200`. */
export function shortageName({ of, asked, model }: Shortage): string {
  return of === 'gpu_model' ? `gpu_model:${model}` : `${of}>=${asked}`;
}
