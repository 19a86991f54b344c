import type { FieldViolation } from './refusal.ts';
import type { TaskClass } from './task-state.ts';

/** What a task has for itself on its worker while it is leased. */
export interface Resources {
  /** Cores; parts of one are fine. */
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Whole devices of one worker, all or none. */
  readonly gpus: number;
  /** Of each of these devices. */
  readonly gpuMemoryBytes: number;
  /** Words of the device's model, in any case: `a100`, `RTX 4090`. Empty: any. */
  readonly gpuModel: string;
}

/** Resources as they are asked for; what is left out has its default. */
export type ResourceRequest = { readonly [Field in keyof Resources]?: Resources[Field] | undefined };

const GIB = 2 ** 30;

/** Where a task asks for resources and does not say how much of these. */
export const DEFAULT_CPUS = 1;
export const DEFAULT_MEMORY_BYTES = 4 * GIB;
/** Of a task of a GPU class, and of one that says something of devices and not how many. */
export const DEFAULT_GPUS = 1;
/** Of each device, where a task uses any. */
export const DEFAULT_GPU_MEMORY_BYTES = 2 * GIB;

export const MAX_CPUS = 65_536;
export const MAX_MEMORY_BYTES = 2 ** 50;
export const MAX_GPUS = 1_024;
export const MAX_GPU_MEMORY_BYTES = 2 ** 44;
const MAX_MODEL_LENGTH = 200;

/** The class is one of machines with devices. */
export function isGpuClass(taskClass: TaskClass): boolean {
  return taskClass === 'gpu' || taskClass === 'gpu_slurm';
}

/** What a task of class gpu uses that asks for nothing: a device. CPUs and memory it has as any task without resources: none of its own. */
export const GPU_CLASS_RESOURCES: Resources = Object.freeze({
  cpus: 0,
  memoryBytes: 0,
  gpus: DEFAULT_GPUS,
  gpuMemoryBytes: DEFAULT_GPU_MEMORY_BYTES,
  gpuModel: '',
});

/** With the defaults for what is left out. */
export function completeResources(request: ResourceRequest, taskClass: TaskClass): Resources {
  const saysDevice = Boolean(request.gpuMemoryBytes || request.gpuModel);
  const gpus = request.gpus ?? (isGpuClass(taskClass) || saysDevice ? DEFAULT_GPUS : 0);
  return {
    cpus: request.cpus ?? DEFAULT_CPUS,
    memoryBytes: request.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    gpus,
    gpuMemoryBytes: gpus === 0 ? 0 : (request.gpuMemoryBytes ?? DEFAULT_GPU_MEMORY_BYTES),
    gpuModel: gpus === 0 ? '' : (request.gpuModel ?? '').trim().toLowerCase(),
  };
}

/** All that is wrong with a request for resources; each says what is possible. Empty: nothing. */
export function resourceViolations(request: ResourceRequest, field: string): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const check = (name: keyof Resources, path: string, max: number, isWhole: boolean, unit: string) => {
    const value = request[name] as number | undefined;
    if (value === undefined) return;
    if (Number.isFinite(value) && value >= 0 && value <= max && (!isWhole || Number.isInteger(value))) return;
    const what = isWhole ? 'a whole number' : 'a number';
    violations.push({
      field: `${field}.${path}`,
      description: `is ${value}; it must be ${what} from 0 to ${max}${unit}`,
    });
  };
  check('cpus', 'cpus', MAX_CPUS, false, '');
  check('memoryBytes', 'memory_bytes', MAX_MEMORY_BYTES, true, ' (1 PiB)');
  check('gpus', 'gpus', MAX_GPUS, true, '');
  check('gpuMemoryBytes', 'gpu_memory_bytes', MAX_GPU_MEMORY_BYTES, true, ' (16 TiB), for each device');
  const { gpuModel } = request;
  if (
    gpuModel !== undefined &&
    (gpuModel.length > MAX_MODEL_LENGTH || /[\u0000-\u001f\u007f]/.test(gpuModel) || !gpuModel.isWellFormed())
  )
    violations.push({
      field: `${field}.gpu_model`,
      description: `must be at most ${MAX_MODEL_LENGTH} characters, without control characters`,
    });
  if (request.gpus === 0)
    for (const [name, path] of [
      ['gpuMemoryBytes', 'gpu_memory_bytes'],
      ['gpuModel', 'gpu_model'],
    ] as const)
      if (request[name])
        violations.push({ field: `${field}.${path}`, description: 'says something of devices, and gpus is 0' });
  return violations;
}

/** Whether a device's model has all the words that are asked for, in any case and order. */
export function isModel(model: string, asked: string): boolean {
  if (asked === '') return true;
  const words = new Set(wordsOf(model));
  return wordsOf(asked).every((word) => words.has(word));
}

function wordsOf(text: string): string[] {
  return text
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);
}
