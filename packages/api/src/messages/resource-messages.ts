import {
  type Requirements as RequirementsMessage,
  RequirementsSchema,
  type Resources as ResourcesMessage,
  ResourcesSchema,
} from '@baton/contract';
import type { Needs, Requirements, ResourceRequest, Resources } from '@baton/domain';
import { create } from '@bufbuild/protobuf';

/** As it was asked for: what was left out is absent. */
export function toResourceRequest(message: ResourcesMessage): ResourceRequest {
  const { cpus, memoryBytes, gpus, gpuMemoryBytes, gpuModel } = message;
  return {
    ...(cpus !== undefined && { cpus }),
    ...(memoryBytes !== undefined && { memoryBytes: Number(memoryBytes) }),
    ...(gpus !== undefined && { gpus }),
    ...(gpuMemoryBytes !== undefined && { gpuMemoryBytes: Number(gpuMemoryBytes) }),
    ...(gpuModel !== '' && { gpuModel }),
  };
}

/** Undefined where nothing is required. */
export function toRequirements(message: RequirementsMessage): Requirements | undefined {
  const { os, tools, selector } = message;
  if (os.length === 0 && tools.length === 0 && selector === '') return undefined;
  return { ...(os.length > 0 && { os }), ...(tools.length > 0 && { tools }), ...(selector !== '' && { selector }) };
}

export function resourcesMessage(resources: Resources): ResourcesMessage {
  return create(ResourcesSchema, {
    cpus: resources.cpus,
    memoryBytes: BigInt(resources.memoryBytes),
    gpus: resources.gpus,
    ...(resources.gpus > 0 && { gpuMemoryBytes: BigInt(resources.gpuMemoryBytes) }),
    gpuModel: resources.gpuModel,
  });
}

/** The parts of a task's message that say what it needs. */
export function needsMessages(needs: Needs | null): {
  resources?: ResourcesMessage;
  requirements?: RequirementsMessage;
} {
  if (!needs) return {};
  const { resources, os = [], tools = [], selector = '' } = needs;
  const requires = os.length > 0 || tools.length > 0 || selector !== '';
  return {
    ...(resources && { resources: resourcesMessage(resources) }),
    ...(requires && { requirements: create(RequirementsSchema, { os: [...os], tools: [...tools], selector }) }),
  };
}
