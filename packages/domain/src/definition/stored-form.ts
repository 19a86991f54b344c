import type { RetryPolicy } from '../retry.ts';
import { TASK_CLASSES } from '../task-state.ts';
import { canonicalJson, type JsonObject, type JsonValue, ownValue, type UnknownRecord } from './json.ts';
import { type NodeDefinition, type NodeExecutor, PROGRAM_EXECUTORS, type WorkflowDefinition } from './model.ts';
import { list, number, object, present, StoredFormError, string, strings } from './stored-fields.ts';
import { readNodeOptions } from './stored-node-options.ts';

export { StoredFormError } from './stored-fields.ts';

/**
 * What is written. Version 1 is read too: nothing but the marker differs where a definition uses none of the fields of
 * version 2. The marker and the number keep those definitions from masters that know version 1 only, and with it another
 * way to advance runs: they refuse to read them.
 */
const STORED_VERSION = 2;
const STORED_ENGINE = 2;

/**
 * A definition as text to keep: canonical JSON, so that equal definitions have equal text, whatever the order, the
 * form's spelling or the format of the file, and a hash of the text identifies them. Nodes are a list, for a name such
 * as `__proto__` survives as a value everywhere and as a key only with care.
 */
export function toStoredForm(definition: WorkflowDefinition): string {
  return canonicalJson({ ...definition, engine: STORED_ENGINE, version: STORED_VERSION });
}

/**
 * The definition that was kept. Fields that a later version has added are ignored.
 *
 * @throws StoredFormError for anything that `toStoredForm` did not write
 */
export function fromStoredForm(text: string): WorkflowDefinition {
  const root = object(parse(text), 'the definition');
  const version = ownValue(root, 'version');
  if (version !== 1 && !(version === STORED_VERSION && ownValue(root, 'engine') === STORED_ENGINE)) {
    throw new StoredFormError(`stored form ${String(version)} is not known here`);
  }
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
  return {
    name: string(root, 'name'),
    form,
    nodes,
    ...(Object.hasOwn(root, 'description') && { description: string(root, 'description') }),
    ...(Object.hasOwn(root, 'output') && { output: present(root, 'output') as JsonValue }),
  };
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
    ...readNodeOptions(record),
  };
}

function readExecutor(record: UnknownRecord): NodeExecutor {
  const type = string(record, 'type');
  if (type === 'function') return { type, kind: string(record, 'kind') };
  if (type === 'grpc') return { type, address: string(record, 'address'), method: string(record, 'method') };
  if (type === 'workflow') {
    const version = present(record, 'version');
    return { type, name: string(record, 'name'), version: version === null ? null : number(record, 'version') };
  }
  const program = PROGRAM_EXECUTORS.find((known) => known === type);
  if (program) return { type: program, config: object(present(record, 'config'), 'a program') as JsonObject };
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
