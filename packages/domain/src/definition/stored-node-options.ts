import type { TaskEnvironment } from '../task-environment.ts';
import { type JsonValue, setOwnValue, type UnknownRecord } from './json.ts';
import { type ForEach, NODE_TYPES, type NodeCache, type NodeDefinition } from './model.ts';
import { storedRequirements, storedResources } from './node-resources.ts';
import { number, object, present, string, strings, word } from './stored-fields.ts';

/** The fields of a stored node that a file need not use: each is there or absent, never undefined. */
export function readNodeOptions(record: UnknownRecord): Partial<NodeDefinition> {
  const has = (key: string): boolean => Object.hasOwn(record, key);
  return {
    ...(has('when') && { when: string(record, 'when') }),
    ...(has('forEach') && { forEach: readForEach(object(present(record, 'forEach'), 'forEach')) }),
    ...(has('join') && { join: word(record, 'join', ['any', 'always'] as const) }),
    ...(has('onFailure') && { onFailure: word(record, 'onFailure', ['continue'] as const) }),
    ...(has('type') && { type: word(record, 'type', NODE_TYPES) }),
    ...(has('edgeTypes') && {
      edgeTypes: byName(record, 'edgeTypes', (types, need) => word(types, need, ['control', 'reward'] as const)),
    }),
    ...(has('labels') && { labels: byName(record, 'labels', string) }),
    ...(has('scheduleToStartMs') && { scheduleToStartMs: number(record, 'scheduleToStartMs') }),
    ...(has('progressTimeoutMs') && { progressTimeoutMs: number(record, 'progressTimeoutMs') }),
    ...(has('environment') && { environment: readEnvironment(object(present(record, 'environment'), 'environment')) }),
    ...(has('artifacts') && { artifacts: byName(record, 'artifacts', (all, name) => present(all, name) as JsonValue) }),
    ...(has('resources') && { resources: storedResources(object(present(record, 'resources'), 'resources')) }),
    ...(has('requires') && { requires: storedRequirements(object(present(record, 'requires'), 'requires')) }),
    ...(has('cache') && { cache: readCache(object(present(record, 'cache'), 'a cache')) }),
  };
}

function readEnvironment(record: UnknownRecord): TaskEnvironment {
  const has = (key: string): boolean => Object.hasOwn(record, key);
  return {
    ...(has('pass') && { pass: strings(record, 'pass') }),
    ...(has('set') && { set: byName(record, 'set', string) }),
    ...(has('workingDirectory') && { workingDirectory: string(record, 'workingDirectory') }),
  };
}

function readForEach(record: UnknownRecord): ForEach {
  const parallel = Object.hasOwn(record, 'maxParallel') && { maxParallel: number(record, 'maxParallel') };
  if (!Object.hasOwn(record, 'matrix')) return { items: present(record, 'items') as JsonValue, ...parallel };
  return { matrix: byName(record, 'matrix', (axes, axis) => present(axes, axis) as JsonValue), ...parallel };
}

function readCache(record: UnknownRecord): NodeCache {
  const ttlMs = number(record, 'ttlMs');
  return Object.hasOwn(record, 'key') ? { ttlMs, key: present(record, 'key') as JsonValue } : { ttlMs };
}

function byName<T>(
  record: UnknownRecord,
  key: string,
  read: (values: UnknownRecord, name: string) => T,
): Record<string, T> {
  const values = object(present(record, key), `"${key}"`);
  const result: Record<string, T> = {};
  for (const name of Object.keys(values)) setOwnValue(result, name, read(values, name));
  return result;
}
