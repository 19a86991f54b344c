import type { RetryPolicy } from '../retry.ts';
import { TASK_CLASSES } from '../task-state.ts';
import { canonicalJson, isRecord, type JsonValue, ownValue, type UnknownRecord } from './json.ts';
import type { NodeDefinition, NodeExecutor, WorkflowDefinition } from './model.ts';

const STORED_VERSION = 1;

/** A text that is no stored definition, or one of a version that this code cannot read. */
export class StoredFormError extends Error {
  override readonly name = 'StoredFormError';
}

/**
 * A definition as text to keep: canonical JSON, so that equal definitions have equal text, whatever the order, the
 * form's spelling or the format of the file, and a hash of the text identifies them. Nodes are a list, for a name such
 * as `__proto__` survives as a value everywhere and as a key only with care.
 */
export function toStoredForm(definition: WorkflowDefinition): string {
  return canonicalJson({ ...definition, version: STORED_VERSION });
}

/**
 * The definition that was kept. Fields that a later version has added are ignored.
 *
 * @throws StoredFormError for anything that `toStoredForm` did not write
 */
export function fromStoredForm(text: string): WorkflowDefinition {
  const root = object(parse(text), 'the definition');
  const version = ownValue(root, 'version');
  if (version !== STORED_VERSION) throw new StoredFormError(`stored form ${String(version)} is not known here`);
  const form = string(root, 'form');
  if (form !== 'chain' && form !== 'nodes') throw new StoredFormError(`the form ${form} is not known here`);
  const nodes: NodeDefinition[] = [];
  const ids = new Set<string>();
  for (const item of list(root, 'nodes')) {
    const node = readNode(object(item, 'a node'));
    // Kept in an order in which they can run: that one look proves that needs exist and that there is no cycle.
    if (ids.has(node.id) || !node.needs.every((need) => ids.has(need))) {
      throw new StoredFormError(`the stored node ${JSON.stringify(node.id)} is out of order`);
    }
    ids.add(node.id);
    nodes.push(node);
  }
  const definition = { name: string(root, 'name'), form, nodes } as const;
  return Object.hasOwn(root, 'description') ? { ...definition, description: string(root, 'description') } : definition;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new StoredFormError('a stored definition is not JSON', { cause });
  }
}

function readNode(record: UnknownRecord): NodeDefinition {
  const taskClass = TASK_CLASSES.find((known) => known === ownValue(record, 'taskClass'));
  if (!taskClass) throw new StoredFormError('a stored node has a task class that is not known here');
  return {
    id: string(record, 'id'),
    needs: strings(record, 'needs'),
    executor: readExecutor(object(ownValue(record, 'executor'), 'an executor')),
    kind: string(record, 'kind'),
    queue: string(record, 'queue'),
    taskClass,
    tags: strings(record, 'tags'),
    input: present(record, 'input') as JsonValue,
    retry: readRetry(object(ownValue(record, 'retry'), 'a retry policy')),
    timeoutMs: number(record, 'timeoutMs'),
    priority: number(record, 'priority'),
  };
}

function readExecutor(record: UnknownRecord): NodeExecutor {
  const type = string(record, 'type');
  if (type === 'function') return { type, kind: string(record, 'kind') };
  if (type === 'grpc') return { type, address: string(record, 'address'), method: string(record, 'method') };
  throw new StoredFormError(`the executor ${type} is not known here`);
}

function readRetry(record: UnknownRecord): RetryPolicy {
  return {
    maxAttempts: number(record, 'maxAttempts'),
    initialDelayMs: number(record, 'initialDelayMs'),
    factor: number(record, 'factor'),
    maxDelayMs: number(record, 'maxDelayMs'),
    jitter: number(record, 'jitter'),
  };
}

function present(record: UnknownRecord, key: string): unknown {
  const value = ownValue(record, key);
  if (value === undefined) throw new StoredFormError(`a stored definition lacks "${key}"`);
  return value;
}

function object(value: unknown, what: string): UnknownRecord {
  if (!isRecord(value)) throw new StoredFormError(`${what} in a stored definition is not an object`);
  return value;
}

function list(record: UnknownRecord, key: string): readonly unknown[] {
  const value = present(record, key);
  if (!Array.isArray(value)) throw new StoredFormError(`"${key}" in a stored definition is not a list`);
  return value;
}

function string(record: UnknownRecord, key: string): string {
  const value = present(record, key);
  if (typeof value !== 'string') throw new StoredFormError(`"${key}" in a stored definition is not a string`);
  return value;
}

function strings(record: UnknownRecord, key: string): string[] {
  return list(record, key).map((item) => {
    if (typeof item !== 'string') throw new StoredFormError(`"${key}" in a stored definition holds no strings`);
    return item;
  });
}

function number(record: UnknownRecord, key: string): number {
  const value = present(record, key);
  if (typeof value !== 'number') throw new StoredFormError(`"${key}" in a stored definition is not a number`);
  return value;
}
