import { CHAIN_FIELDS, readChainForm } from './chain-form.ts';
import type { Expressions } from './expressions.ts';
import { describeValue, isRecord, MAX_JSON_DEPTH, MAX_JSON_VALUES, ownValue, type UnknownRecord } from './json.ts';
import { parseJsonText } from './json-text.ts';
import type { WorkflowDefinition } from './model.ts';
import { NODES_FIELDS, readNodesForm } from './nodes-form.ts';
import { at, type Place, type Problem, Problems, ROOT } from './problem.ts';

/** A definition, or everything that is wrong with it. */
export type ParsedDefinition =
  | { readonly ok: true; readonly definition: WorkflowDefinition }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Reads a workflow from the value of a JSON or YAML file, in either of the two forms, which are told apart by their
 * fields. Reports everything that is wrong at once; the same file always gives the same problems in the same order.
 * Linear in the size of the file, and safe for any value: also one that is too deep, too large or contains itself.
 *
 * @param expressions the language of `when` and `$expr`; `createExpressions()` of `@baton/expressions`
 */
export function parseDefinition(value: unknown, expressions: Expressions): ParsedDefinition {
  const problems = new Problems();
  const definition = isBounded(problems, value) ? readEitherForm(problems, value, expressions) : undefined;
  return definition && problems.isEmpty ? { ok: true, definition } : { ok: false, problems: problems.list };
}

/**
 * Reads a workflow from JSON text: `parseDefinition` of `parseJsonText`, so that a key given twice, or a number that
 * would lose digits, is a problem here and not a surprise later.
 */
export function parseDefinitionJson(text: string, expressions: Expressions): ParsedDefinition {
  const parsed = parseJsonText(text);
  return parsed.ok ? parseDefinition(parsed.value, expressions) : parsed;
}

const FORMS =
  'a workflow has "name" and "nodes" (nodes with "needs"), or "workflow_name", "start_node", "execution_mode", ' +
  '"service_registry" and "containers" (a chain)';

function readEitherForm(problems: Problems, value: unknown, expressions: Expressions): WorkflowDefinition | undefined {
  if (!isRecord(value)) {
    problems.add(ROOT, 'WRONG_TYPE', `a workflow must be an object, not ${describeValue(value)}`, FORMS);
    return undefined;
  }
  const form = formOf(value);
  if (form === 'chain') return readChainForm(problems, value);
  if (form === 'nodes') return readNodesForm(problems, value, expressions);
  if (form === 'both') {
    const message = 'this has both "nodes" and "containers", so it could be either form';
    problems.add(ROOT, 'AMBIGUOUS_FORM', message, FORMS);
  } else {
    problems.add(ROOT, 'UNKNOWN_FORM', 'this has the fields of neither form of a workflow', FORMS);
  }
  return undefined;
}

/** By the field that holds the nodes; where that is missing, by the number of fields of each form. */
function formOf(record: UnknownRecord): 'chain' | 'nodes' | 'both' | 'neither' {
  const hasNodes = Object.hasOwn(record, 'nodes');
  const hasContainers = Object.hasOwn(record, 'containers');
  if (hasNodes || hasContainers) return hasNodes && hasContainers ? 'both' : hasNodes ? 'nodes' : 'chain';
  const count = (fields: readonly string[]): number => fields.filter((field) => Object.hasOwn(record, field)).length;
  const chain = count(CHAIN_FIELDS);
  const nodes = count(NODES_FIELDS);
  if (chain === 0 && nodes === 0) return 'neither';
  return chain >= nodes ? 'chain' : 'nodes';
}

/** Whether the value is shallow and small enough to be read; counted where used, so sharing hides nothing. */
function isBounded(problems: Problems, value: unknown): boolean {
  const stack: { value: unknown; place: Place; depth: number }[] = [{ value, place: ROOT, depth: 0 }];
  let count = 0;
  for (let top = stack.pop(); top; top = stack.pop()) {
    count += 1;
    const { value: item, place, depth } = top;
    const isList = Array.isArray(item);
    if (!isList && !isRecord(item)) continue;
    if (depth === MAX_JSON_DEPTH) {
      problems.add(place, 'TOO_DEEP', `this is nested more than ${MAX_JSON_DEPTH} levels deep`);
      return false;
    }
    const keys: readonly (string | number)[] = isList ? [...item.keys()] : Object.keys(item);
    if (count + stack.length + keys.length > MAX_JSON_VALUES) {
      problems.add(ROOT, 'TOO_LARGE', `this has more than ${MAX_JSON_VALUES} values`);
      return false;
    }
    for (let index = keys.length - 1; index >= 0; index--) {
      const key = keys[index]!;
      const below: unknown =
        typeof key === 'number' ? (item as readonly unknown[])[key] : ownValue(item as UnknownRecord, key);
      if (typeof below === 'object' && below !== null)
        stack.push({ value: below, place: at(place, key), depth: depth + 1 });
      else count += 1;
    }
  }
  return true;
}
