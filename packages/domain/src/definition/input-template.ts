import { checkExpression, expressionNodes, type FoundReference } from './check-expression.ts';
import { ExpressionError, type ExpressionScope, type Expressions, type ExpressionVariables } from './expressions.ts';
import { describeValue, isRecord, type JsonObject, type JsonValue, ownValue, setOwnValue } from './json.ts';
import { at, type Place, type Problems, quote } from './problem.ts';

/** A way into a value: strings go into objects, whole numbers into lists. Empty: the value itself. */
export type ValuePath = readonly (string | number)[];

/** What stands for a value that is known only when the node starts. */
export type InputReference =
  /** `{ "$from": "node", "path": ["a", 0] }`: the output of an upstream node, or a part of it. */
  | { readonly source: 'output'; readonly node: string; readonly path: ValuePath }
  /** `{ "$input": ["key"] }`: the run's input, or a part of it. */
  | { readonly source: 'input'; readonly path: ValuePath }
  /** `{ "$expr": "text" }`: the value of an expression. */
  | { readonly source: 'expression'; readonly text: string };

/** The language of the file's expressions and what they may name at this place. */
export interface TemplateRules {
  readonly expressions: Expressions;
  readonly scope: ExpressionScope;
  /** What the template is, for a sentence. Default `the input`. */
  readonly what?: string;
}

const FORMS =
  'write { "$from": "node" }, { "$from": "node", "path": ["key", 0] }, { "$input": ["key"] } or { "$expr": "text" }';
const MARKS = ['$from', '$input', '$expr'] as const;

type Reading = InputReference | { readonly malformed: string; readonly key?: string } | undefined;

/** Whether an object stands for a value that is known only later. */
export function isReference(value: unknown): boolean {
  return isRecord(value) && MARKS.some((mark) => Object.hasOwn(value, mark));
}

/** An object as a reference; undefined when it is plain data, which it is without `$from`, `$input` and `$expr`. */
function readReference(record: Readonly<Record<string, unknown>>): Reading {
  const marks = MARKS.filter((mark) => Object.hasOwn(record, mark));
  const [mark] = marks;
  if (mark === undefined) return undefined;
  if (marks.length > 1) {
    return { malformed: `a reference has ${marks.map(quote).join(' or ')}, not ${marks.length > 2 ? 'all' : 'both'}` };
  }
  const fromOutput = mark === '$from';
  const allowed: readonly string[] = fromOutput ? ['$from', 'path'] : [mark];
  const extra = Object.keys(record).find((key) => !allowed.includes(key));
  if (extra !== undefined) return { malformed: `a reference has no field ${quote(extra)}`, key: extra };
  if (mark === '$expr') {
    const text = ownValue(record, '$expr');
    return typeof text === 'string'
      ? { source: 'expression', text }
      : { malformed: '"$expr" must be the text of an expression', key: '$expr' };
  }
  const pathKey = fromOutput ? 'path' : '$input';
  const path = ownValue(record, pathKey) ?? (fromOutput && !Object.hasOwn(record, 'path') ? [] : undefined);
  const isStep = (step: unknown): boolean =>
    typeof step === 'string' || (Number.isSafeInteger(step) && (step as number) >= 0);
  if (!Array.isArray(path) || !path.every(isStep)) {
    return { malformed: `${quote(pathKey)} must be a list of keys and whole numbers`, key: pathKey };
  }
  if (!fromOutput) return { source: 'input', path: path as ValuePath };
  const node = ownValue(record, '$from');
  if (typeof node !== 'string') return { malformed: '"$from" must be the id of a node', key: '$from' };
  return { source: 'output', node, path: path as ValuePath };
}

/**
 * Goes through a template: reports what is not JSON and references and expressions that are malformed, and returns
 * those to nodes in the order in which they stand. The caller has bounded the depth.
 */
export function checkTemplate(
  problems: Problems,
  place: Place,
  template: unknown,
  { expressions, scope, what: by = 'the input' }: TemplateRules,
): FoundReference[] {
  const found: FoundReference[] = [];
  const stack: { value: unknown; place: Place }[] = [{ value: template, place }];
  for (let top = stack.pop(); top; top = stack.pop()) {
    const { value, place: here } = top;
    if (Array.isArray(value)) {
      for (let index = value.length - 1; index >= 0; index--) {
        stack.push({ value: value[index], place: at(here, index) });
      }
    } else if (isRecord(value)) {
      const reference = readReference(value);
      if (reference && 'malformed' in reference) {
        const wrong = reference.key === undefined ? here : at(here, reference.key);
        problems.add(wrong, 'MALFORMED_REFERENCE', reference.malformed, FORMS);
      } else if (reference) {
        if (reference.source === 'output') found.push({ node: reference.node, place: at(here, '$from'), by });
        if (reference.source === 'expression') {
          found.push(...checkExpression(problems, at(here, '$expr'), reference.text, expressions, scope));
        }
      } else {
        for (const key of Object.keys(value).reverse()) {
          stack.push({ value: ownValue(value, key), place: at(here, key) });
        }
      }
    } else if (!isScalar(value)) {
      problems.add(here, 'NOT_JSON', `${describeValue(value)} is not JSON`);
    }
  }
  return found;
}

function isScalar(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value);
  return value === null || typeof value === 'string' || typeof value === 'boolean';
}

/** A reference that leads nowhere. */
export interface UnresolvedReference {
  readonly reference: InputReference;
  /** For a person: which reference, and where its path ends. */
  readonly message: string;
}

/** A node's input with every reference replaced, or every reference that leads nowhere. */
export type ResolvedInput =
  | { readonly ok: true; readonly value: JsonValue }
  | { readonly ok: false; readonly unresolved: readonly UnresolvedReference[] };

/** What the expressions of a template are evaluated with. */
export interface ExpressionContext {
  readonly expressions: Expressions;
  readonly variables: ExpressionVariables;
}

/**
 * Fills in a template (a node's input, the items of its fan-out, the run's output) as its value is wanted. Pure; parts
 * of the outputs are shared, not copied.
 *
 * @param template as `parseDefinition` or `fromStoredForm` gave it (its depth is bounded)
 * @param runInput what the run was started with
 * @param outputs the outputs of the nodes that have ended; null for those that did not succeed
 * @param context for `$expr`; without it, an expression is a reference that leads nowhere
 */
export function resolveInput(
  template: JsonValue,
  runInput: JsonValue,
  outputs: ReadonlyMap<string, JsonValue>,
  context?: ExpressionContext,
): ResolvedInput {
  const unresolved: UnresolvedReference[] = [];

  const compute = (reference: InputReference & { source: 'expression' }): JsonValue => {
    try {
      if (context) return context.expressions.evaluate(reference.text, context.variables);
      unresolved.push({ reference, message: `the expression ${quote(reference.text)} cannot be evaluated here` });
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      const message = `the expression ${quote(reference.text)} has no value: ${error.message}`;
      unresolved.push({ reference, message });
    }
    return null;
  };

  const follow = (reference: InputReference): JsonValue => {
    if (reference.source === 'expression') return compute(reference);
    const origin = reference.source === 'input' ? 'the run input' : `the output of ${quote(reference.node)}`;
    let value = reference.source === 'input' ? runInput : outputs.get(reference.node);
    if (value === undefined) {
      unresolved.push({ reference, message: `${origin} is not there` });
      return null;
    }
    for (const [index, step] of reference.path.entries()) {
      value = child(value, step);
      if (value === undefined) {
        const path = JSON.stringify(reference.path.slice(0, index + 1));
        unresolved.push({ reference, message: `${origin} has nothing at ${path}` });
        return null;
      }
    }
    return value;
  };

  const fill = (value: JsonValue): JsonValue => {
    if (isList(value)) return value.map(fill);
    if (!isRecord(value)) return value;
    const reference = readReference(value);
    if (reference && !('malformed' in reference)) return follow(reference);
    const filled: Record<string, JsonValue> = {};
    for (const key of Object.keys(value)) setOwnValue(filled, key, fill(ownValue(value as JsonObject, key)!));
    return filled;
  };

  const value = fill(template);
  return unresolved.length === 0 ? { ok: true, value } : { ok: false, unresolved };
}

/** The nodes that a template names, in references and in sound expressions, each once. */
export function templateNodes(template: JsonValue, expressions: Expressions): Set<string> {
  const nodes = new Set<string>();
  for (const reference of templateReferences(template)) {
    if (reference.source === 'output') nodes.add(reference.node);
    else if (reference.source === 'expression')
      for (const node of expressionNodes(reference.text, expressions)) nodes.add(node);
  }
  return nodes;
}

/** Those of them of whose outputs it wants a part, or computes with: by its name alone an output would not do. */
export function templatePartNodes(template: JsonValue, expressions: Expressions): Set<string> {
  const nodes = new Set<string>();
  for (const reference of templateReferences(template)) {
    if (reference.source === 'output' && reference.path.length > 0) nodes.add(reference.node);
    else if (reference.source === 'expression') addOutputNodes(nodes, reference.text, expressions);
  }
  return nodes;
}

/** The nodes whose outputs an expression computes with; one that asks for states alone wants no output. */
export function addOutputNodes(nodes: Set<string>, text: string, expressions: Expressions): void {
  if (!text.includes('output')) return;
  for (const node of expressionNodes(text, expressions)) nodes.add(node);
}

/** The node whose whole output the template is. */
export function templateOfNode(template: JsonValue): string | undefined {
  const reference = isRecord(template) ? readReference(template) : undefined;
  if (!reference || 'malformed' in reference || reference.source !== 'output') return undefined;
  return reference.path.length === 0 ? reference.node : undefined;
}

function* templateReferences(template: JsonValue): Generator<InputReference> {
  const stack: JsonValue[] = [template];
  for (let value = stack.pop(); value !== undefined; value = stack.pop()) {
    if (isList(value)) {
      for (const item of value) stack.push(item);
    } else if (isRecord(value)) {
      const reference = readReference(value);
      if (!reference) for (const item of Object.values(value)) stack.push(item as JsonValue);
      else if (!('malformed' in reference)) yield reference;
    }
  }
}

function child(value: JsonValue, step: string | number): JsonValue | undefined {
  if (isList(value)) return typeof step === 'number' ? value[step] : undefined;
  return typeof step === 'string' && isRecord(value) ? ownValue(value as JsonObject, step) : undefined;
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}
