import { type Requirements, requirementViolations } from '../requirements.ts';
import {
  MAX_CPUS,
  MAX_GPU_MEMORY_BYTES,
  MAX_GPUS,
  MAX_MEMORY_BYTES,
  type ResourceRequest,
  resourceViolations,
} from '../resources.ts';
import type { Expressions } from './expressions.ts';
import { Fields } from './fields.ts';
import type { UnknownRecord } from './json.ts';
import { at, type Place, type Problems, quote } from './problem.ts';
import { number, string, strings } from './stored-fields.ts';

const GIB = 2 ** 30;
const RESOURCE_FIELDS = [
  'cpus',
  'memory_gib',
  'memory_bytes',
  'gpus',
  'gpu_memory_gib',
  'gpu_memory_bytes',
  'gpu_model',
];

/** Reads `resources` of a node or of `defaults`; undefined: none. */
export function readResources(problems: Problems, node: Fields): ResourceRequest | undefined {
  const record = node.record('resources');
  if (!record) return undefined;
  const fields = new Fields(problems, node.at('resources'), record);
  const bytes = (name: string, max: number): number | undefined => {
    const gib = fields.number(`${name}_gib`, { min: 0, max: max / GIB });
    const exact = fields.number(`${name}_bytes`, { min: 0, max, integer: true });
    if (gib !== undefined && exact !== undefined) {
      const message = `${quote(`${name}_gib`)} and ${quote(`${name}_bytes`)} say the same thing`;
      problems.add(fields.at(`${name}_bytes`), 'OUT_OF_RANGE', message, 'leave out one of them');
    }
    return gib === undefined ? exact : Math.round(gib * GIB);
  };
  const cpus = fields.number('cpus', { min: 0, max: MAX_CPUS });
  const memoryBytes = bytes('memory', MAX_MEMORY_BYTES);
  const gpus = fields.number('gpus', { min: 0, max: MAX_GPUS, integer: true });
  const gpuMemoryBytes = bytes('gpu_memory', MAX_GPU_MEMORY_BYTES);
  const gpuModel = fields.name('gpu_model');
  fields.refuseUnknown(RESOURCE_FIELDS);
  const request: ResourceRequest = {
    ...(cpus !== undefined && { cpus }),
    ...(memoryBytes !== undefined && { memoryBytes }),
    ...(gpus !== undefined && { gpus }),
    ...(gpuMemoryBytes !== undefined && { gpuMemoryBytes }),
    ...(gpuModel !== undefined && { gpuModel }),
  };
  // Single numbers were looked at above; here it is how they go together.
  for (const { field, description } of resourceViolations(request, 'resources')) {
    const name = field.slice('resources.'.length);
    problems.add(fields.at(name), 'OUT_OF_RANGE', `${quote(name)} ${description}`);
  }
  return request;
}

/** Reads `requires` of a node or of `defaults`; undefined: nothing. */
export function readRequirements(problems: Problems, node: Fields, expressions: Expressions): Requirements | undefined {
  const record = node.record('requires');
  if (!record) return undefined;
  const fields = new Fields(problems, node.at('requires'), record);
  const os = fields.names('os')?.map((each) => each.name);
  const tools = fields.names('tools')?.map((each) => each.name);
  const selector = fields.text('selector');
  fields.refuseUnknown(['os', 'tools', 'selector']);
  const request: Requirements = {
    ...(os && { os }),
    ...(tools && { tools }),
    ...(selector !== undefined && { selector }),
  };
  for (const { field, description } of requirementViolations(request, 'requires')) {
    problems.add(placeOf(fields, field.slice('requires.'.length)), 'INVALID_NAME', `${quote(field)} ${description}`);
  }
  const checked = selector === undefined ? undefined : expressions.checkSelector?.(selector);
  if (checked && !checked.ok) {
    const where = checked.offset === undefined ? '' : ` (character ${checked.offset + 1})`;
    const message = `the selector ${quote(selector!)} is not sound: ${checked.message}${where}`;
    problems.add(fields.at('selector'), 'MALFORMED_EXPRESSION', message, checked.hint);
  }
  return request;
}

/** `os[1]` as a place. */
function placeOf(fields: Fields, path: string): Place {
  const match = /^(\w+)\[(\d+)\]$/.exec(path);
  return match ? at(fields.at(match[1]!), Number(match[2])) : fields.at(path);
}

/** As they were stored. */
export function storedResources(record: UnknownRecord): ResourceRequest {
  const has = (key: string): boolean => Object.hasOwn(record, key);
  return {
    ...(has('cpus') && { cpus: number(record, 'cpus') }),
    ...(has('memoryBytes') && { memoryBytes: number(record, 'memoryBytes') }),
    ...(has('gpus') && { gpus: number(record, 'gpus') }),
    ...(has('gpuMemoryBytes') && { gpuMemoryBytes: number(record, 'gpuMemoryBytes') }),
    ...(has('gpuModel') && { gpuModel: string(record, 'gpuModel') }),
  };
}

/** As they were stored. */
export function storedRequirements(record: UnknownRecord): Requirements {
  const has = (key: string): boolean => Object.hasOwn(record, key);
  return {
    ...(has('os') && { os: strings(record, 'os') }),
    ...(has('tools') && { tools: strings(record, 'tools') }),
    ...(has('selector') && { selector: string(record, 'selector') }),
  };
}
