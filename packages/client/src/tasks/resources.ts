import {
  type Requirements as RequirementsMessage,
  RequirementsSchema,
  type Resources as ResourcesMessage,
  ResourcesSchema,
} from '@baton/contract';
import { type ResourceRequest, resourceViolations } from '@baton/domain';
import { create } from '@bufbuild/protobuf';
import { BatonError } from '../calls/error.ts';

/** What a task has for itself while it runs. What is left out has its default; without any of it a task takes a slot and nothing else. */
export interface TaskResources {
  /** Cores; parts of one are fine. Default 1. */
  readonly cpus?: number;
  /** Default 4 GiB. */
  readonly memoryBytes?: number;
  /** Instead of `memoryBytes`. */
  readonly memoryGib?: number;
  /** Whole devices of one worker, all or none. Default 0; of class gpu, or with one of the next, 1. */
  readonly gpus?: number;
  /** Of each device. Default 2 GiB. */
  readonly gpuMemoryBytes?: number;
  /** Instead of `gpuMemoryBytes`. */
  readonly gpuMemoryGib?: number;
  /** Words of the device's model, in any case: `a100`, `RTX 4090`. */
  readonly gpuModel?: string;
}

/** What a worker must be, beside its class and tags. */
export interface TaskRequirements {
  /** Any of these: `linux`, `darwin`, `windows`. */
  readonly os?: readonly string[];
  /** All of these: `ffmpeg`, `ffmpeg>=5.1`. */
  readonly tools?: readonly string[];
  /** CEL over `worker` and `gpu`: `gpu.memory_gib >= 40 && worker.tags.exists(t, t == "ssd")`. */
  readonly selector?: string;
}

const GIB = 2 ** 30;

/** Throws `BatonError` (invalid_argument) with all that is wrong. */
export function resourcesMessage(resources: TaskResources): ResourcesMessage {
  const request = requestOf(resources);
  const violations = resourceViolations(request, 'task.resources');
  if (violations.length > 0) {
    throw new BatonError({
      code: 'invalid_argument',
      reason: 'INVALID_REQUEST',
      message: violations.map(({ field, description }) => `${field} ${description}`).join('; '),
      violations,
    });
  }
  const { cpus, memoryBytes, gpus, gpuMemoryBytes, gpuModel } = request;
  return create(ResourcesSchema, {
    cpus,
    memoryBytes: memoryBytes === undefined ? undefined : BigInt(memoryBytes),
    gpus,
    gpuMemoryBytes: gpuMemoryBytes === undefined ? undefined : BigInt(gpuMemoryBytes),
    gpuModel,
  });
}

export function requestOf(resources: TaskResources): ResourceRequest {
  const { cpus, memoryBytes, memoryGib, gpus, gpuMemoryBytes, gpuMemoryGib, gpuModel } = resources;
  return {
    ...(cpus !== undefined && { cpus }),
    ...bytes('memoryBytes', memoryBytes, memoryGib),
    ...(gpus !== undefined && { gpus }),
    ...bytes('gpuMemoryBytes', gpuMemoryBytes, gpuMemoryGib),
    ...(gpuModel !== undefined && { gpuModel }),
  };
}

function bytes(
  name: 'memoryBytes' | 'gpuMemoryBytes',
  exact: number | undefined,
  gib: number | undefined,
): ResourceRequest {
  if (exact !== undefined) return { [name]: exact };
  return gib === undefined ? {} : { [name]: Math.round(gib * GIB) };
}

export function requirementsMessage({ os = [], tools = [], selector = '' }: TaskRequirements): RequirementsMessage {
  return create(RequirementsSchema, { os: [...os], tools: [...tools], selector });
}

export function resourcesView(message: ResourcesMessage): TaskResources {
  const { cpus, memoryBytes, gpus, gpuMemoryBytes, gpuModel } = message;
  return {
    ...(cpus !== undefined && { cpus }),
    ...(memoryBytes !== undefined && { memoryBytes: Number(memoryBytes) }),
    ...(gpus !== undefined && { gpus }),
    ...(gpuMemoryBytes !== undefined && { gpuMemoryBytes: Number(gpuMemoryBytes) }),
    ...(gpuModel !== '' && { gpuModel }),
  };
}

export function requirementsView({ os, tools, selector }: RequirementsMessage): TaskRequirements {
  return { ...(os.length > 0 && { os }), ...(tools.length > 0 && { tools }), ...(selector !== '' && { selector }) };
}

/** As a workflow's file says it. */
export function resourceFields(resources: TaskResources): Record<string, unknown> {
  const { cpus, memoryBytes, gpus, gpuMemoryBytes, gpuModel } = requestOf(resources);
  const fields = { cpus, memory_bytes: memoryBytes, gpus, gpu_memory_bytes: gpuMemoryBytes, gpu_model: gpuModel };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
