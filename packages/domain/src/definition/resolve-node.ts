import { expressionNodes } from './check-expression.ts';
import { ExpressionError, type Expressions } from './expressions.ts';
import {
  addOutputNodes,
  type ExpressionContext,
  resolveInput,
  templateNodes,
  templateOfNode,
  templatePartNodes,
} from './input-template.ts';
import { describeValue, type JsonValue, ownValue, setOwnValue } from './json.ts';
import { type ForEach, MAX_FOR_EACH_ITEMS, type NodeDefinition } from './model.ts';
import { artifactNodes } from './node-artifacts.ts';
import { quote } from './problem.ts';

/** A value, or a sentence that names the field, the expression and the reason. */
export type Resolved<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly message: string };

/** The nodes whose state or output is wanted when a node starts, each once. */
export function nodesReadBy(node: NodeDefinition, expressions: Expressions): Set<string> {
  const nodes = templateNodes(node.input, expressions);
  const add = (names: Iterable<string>): void => {
    for (const name of names) nodes.add(name);
  };
  if (node.when !== undefined) add(expressionNodes(node.when, expressions));
  if (node.forEach) {
    const lists = 'matrix' in node.forEach ? Object.values(node.forEach.matrix) : [node.forEach.items];
    for (const list of lists) add(templateNodes(list, expressions));
  }
  if (node.artifacts) add(artifactNodes(node, expressions));
  if (node.cache?.key !== undefined) add(templateNodes(node.cache.key, expressions));
  return nodes;
}

/** Those of them of whose outputs it wants a part when it starts, or computes with. */
export function nodesReadInto(node: NodeDefinition, expressions: Expressions): Set<string> {
  const nodes = templatePartNodes(node.input, expressions);
  const add = (template: JsonValue): void => {
    for (const name of templatePartNodes(template, expressions)) nodes.add(name);
  };
  if (node.when !== undefined) addOutputNodes(nodes, node.when, expressions);
  if (node.forEach)
    for (const list of 'matrix' in node.forEach ? Object.values(node.forEach.matrix) : [node.forEach.items]) {
      add(list);
      // Its items are parts of it.
      const whole = templateOfNode(list);
      if (whole !== undefined) nodes.add(whole);
    }
  if (node.cache?.key !== undefined) add(node.cache.key);
  return nodes;
}

/** Whether a node that could start is to run. Only `true` and `false` are answers. */
export function resolveWhen(when: string, { expressions, variables }: ExpressionContext): Resolved<boolean> {
  try {
    const value = expressions.evaluate(when, variables);
    if (typeof value === 'boolean') return { ok: true, value };
    return {
      ok: false,
      message: `"when" (${quote(when)}) must be true or false, its value is ${describeValue(value)}`,
    };
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error;
    return { ok: false, message: `"when" (${quote(when)}) has no value: ${error.message}` };
  }
}

/**
 * The items of a fan-out, in order: those of the list; for a matrix an object for each combination, by axis, the last
 * axis changing fastest (axes in the order of their names). At most 100 000.
 *
 * @param outputs the outputs of the nodes that have ended, for `$from`; `context.variables.input` is the run's input
 */
export function resolveItems(
  forEach: ForEach,
  outputs: ReadonlyMap<string, JsonValue>,
  context: ExpressionContext,
): Resolved<readonly JsonValue[]> {
  if (!('matrix' in forEach)) return limited('"for_each"', resolveList('"for_each"', forEach.items, outputs, context));
  const { matrix } = forEach;
  const axes: { readonly name: string; readonly values: readonly JsonValue[] }[] = [];
  let count = 1;
  // A stored definition has its keys in order; the same file gives the same items in the same order everywhere.
  for (const name of Object.keys(matrix).sort()) {
    const list = resolveList(`the list ${quote(name)} of "matrix"`, ownValue(matrix, name)!, outputs, context);
    if (!list.ok) return list;
    axes.push({ name, values: list.value });
    count *= list.value.length;
  }
  if (count > MAX_FOR_EACH_ITEMS) return tooMany('"matrix"', count);
  const items = Array.from({ length: count }, (_, index) => {
    const item: Record<string, JsonValue> = {};
    let rest = index;
    const chosen = axes.map(() => 0);
    for (let axis = axes.length - 1; axis >= 0; axis--) {
      const { length } = axes[axis]!.values;
      chosen[axis] = rest % length;
      rest = Math.floor(rest / length);
    }
    for (const [axis, { name, values }] of axes.entries()) setOwnValue(item, name, values[chosen[axis]!]!);
    return item;
  });
  return { ok: true, value: items };
}

function resolveList(
  what: string,
  template: JsonValue,
  outputs: ReadonlyMap<string, JsonValue>,
  context: ExpressionContext,
): Resolved<readonly JsonValue[]> {
  const resolved = resolveInput(template, context.variables.input, outputs, context);
  if (!resolved.ok) return { ok: false, message: `${what}: ${resolved.unresolved[0]!.message}` };
  const { value } = resolved;
  if (Array.isArray(value)) return { ok: true, value: value as readonly JsonValue[] };
  return { ok: false, message: `${what} must be a list, its value is ${describeValue(value)}` };
}

function limited(what: string, list: Resolved<readonly JsonValue[]>): Resolved<readonly JsonValue[]> {
  return list.ok && list.value.length > MAX_FOR_EACH_ITEMS ? tooMany(what, list.value.length) : list;
}

function tooMany(what: string, count: number): { readonly ok: false; readonly message: string } {
  return { ok: false, message: `${what} makes ${count} items, ${MAX_FOR_EACH_ITEMS} is the most` };
}
