import {
  type CheckedExpression,
  ExpressionError,
  type ExpressionScope,
  type Expressions,
  type ExpressionVariables,
  type JsonValue,
  MAX_EXPRESSION_LENGTH,
} from '@baton/domain';
import { type CelResult, type CelValue, isCelError, parse, plan } from '@bufbuild/cel';
import type { Expr } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js';
import { meteredEnvironment } from './functions.ts';
import { checkScope, type Inspected, inspect, type Vocabulary, type Wrong } from './inspect.ts';
import { instrument } from './instrument.ts';
import { LookupMap, toCelValue, toJsonValue } from './json-values.ts';
import { LimitReached, MAX_WORK, Meter } from './meter.ts';
import { SELECTOR_VOCABULARY } from './selector-vocabulary.ts';
import { nameOf, shapeOf } from './shape.ts';

/** How much is kept and how much may be done. */
export interface ExpressionsOptions {
  /** Expressions that are kept parsed, the ones used last. Default 2 000. */
  readonly keep?: number;
  /** The most work of one evaluation: visits of a part of the expression. Default 3 000 000, some tenths of a second. */
  readonly maxWork?: number;
}

export type Evaluation = (bindings: Record<string, CelValue>) => CelResult;

export interface Parsed {
  readonly expr: Expr;
  readonly inspected: Inspected;
  evaluation?: Evaluation;
}

const MAX_BRACKETS = 64;

/** CEL as the language of expressions. Keeps what it has parsed; one is enough for a process. */
export function createExpressions({ keep = 2_000, maxWork = MAX_WORK }: ExpressionsOptions = {}): Expressions {
  const meter = new Meter();
  const environment = meteredEnvironment(meter);
  const known = new Kept<Parsed | Wrong>(keep);
  const shapes = new Kept<Inspected | null>(keep);

  const parsed = (text: string): Parsed | Wrong => known.get(text, () => parseExpression(text));

  /** What is read by an expression whose shape is known to be sound; undefined when the text itself must be looked at. */
  function inspectShape(text: string): Inspected | undefined {
    const shape = text.length > MAX_EXPRESSION_LENGTH ? undefined : shapeOf(text);
    if (!shape) return undefined;
    const inspected = shapes.get(shape.text, () => {
      const result = parseExpression(shape.text);
      return 'inspected' in result ? result.inspected : null;
    });
    if (inspected === null) return undefined;
    const nodes = new Set(inspected.nodes.map((name) => nameOf(name, shape) ?? name));
    return { nodes: [...nodes], itemNames: inspected.itemNames };
  }

  function check(text: string, scope: ExpressionScope): CheckedExpression {
    const ofShape = inspectShape(text);
    if (ofShape) {
      const checked = checkScope(ofShape, scope);
      if (checked.ok) return checked;
    }
    const result = parsed(text);
    return 'inspected' in result ? checkScope(result.inspected, scope) : result;
  }

  function evaluate(text: string, variables: ExpressionVariables): JsonValue {
    const result = parsed(text);
    if (!('inspected' in result)) throw new ExpressionError(result.message);
    meter.begin(maxWork);
    try {
      const value = withoutTraces(() => evaluationOf(result)(bindingsOf(variables, meter)));
      if (meter.reached !== undefined) throw new ExpressionError(meter.reached);
      if (isCelError(value)) throw new ExpressionError(readable(value.message));
      return toJsonValue(value, meter);
    } catch (error) {
      if (error instanceof LimitReached) throw new ExpressionError(error.message);
      throw error;
    }
  }

  function evaluationOf(known: Parsed): Evaluation {
    if (!known.evaluation) {
      instrument(known.expr);
      known.evaluation = plan(environment, known.expr) as Evaluation;
    }
    return known.evaluation;
  }

  function checkSelector(text: string): CheckedExpression {
    const result = parseExpression(text, SELECTOR_VOCABULARY);
    return 'inspected' in result ? { ok: true, nodes: [] } : result;
  }

  return { check, checkSelector, evaluate };
}

/** An error inside an expression is a value, and there may be millions of them: a stack trace for each costs most. */
export function withoutTraces<T>(work: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function bindingsOf(variables: ExpressionVariables, meter: Meter): Record<string, CelValue> {
  const { input, nodes, run, item, index, matrix } = variables;
  const bindings: Record<string, CelValue> = Object.create(null);
  bindings.input = toCelValue(input, meter);
  bindings.nodes = new LookupMap(nodes, meter) as unknown as CelValue;
  bindings.run = toCelValue({ id: run.id, execution: run.execution }, meter);
  if (item !== undefined) bindings.item = toCelValue(item, meter);
  if (index !== undefined) bindings.index = toCelValue(index, meter);
  if (matrix !== undefined) bindings.matrix = toCelValue(matrix, meter);
  return bindings;
}

/** @param vocabulary names instead of those of a run */
export function parseExpression(text: string, vocabulary?: Vocabulary): Parsed | Wrong {
  if (text.trim() === '') return { ok: false, message: 'there is nothing in it' };
  if (text.length > MAX_EXPRESSION_LENGTH) {
    return { ok: false, message: `it has ${text.length} characters, ${MAX_EXPRESSION_LENGTH} is the most` };
  }
  // The parser goes down by recursion: its stack must not depend on who calls it.
  const tooDeepAt = offsetBelow(text, MAX_BRACKETS);
  if (tooDeepAt !== undefined) {
    return { ok: false, message: `it has more than ${MAX_BRACKETS} brackets inside each other`, offset: tooDeepAt };
  }
  try {
    const { expr, sourceInfo } = parse(text);
    if (!expr) return { ok: false, message: 'there is nothing in it' };
    const inspection = inspect(expr, sourceInfo?.positions ?? {}, vocabulary);
    return inspection.ok ? { expr, inspected: inspection.inspected } : inspection;
  } catch (error) {
    if (error instanceof RangeError) return { ok: false, message: 'its parts are nested too deep' };
    return syntaxError(error);
  }
}

/** Where brackets are nested deeper than allowed; strings are gone through too, which only refuses more. */
function offsetBelow(text: string, most: number): number | undefined {
  let depth = 0;
  for (let offset = 0; offset < text.length; offset++) {
    const character = text[offset]!;
    if ('([{'.includes(character)) depth += 1;
    else if (')]}'.includes(character)) depth -= 1;
    if (depth > most) return offset;
  }
  return undefined;
}

function syntaxError(error: unknown): Wrong {
  const message =
    error instanceof Error ? error.message.replace(/^(?:syntax error )?<input>:\d+:\d+: /, '') : String(error);
  const location: unknown = error instanceof Error && 'location' in error ? error.location : undefined;
  const offset = (location as { start?: { offset?: unknown } } | undefined)?.start?.offset;
  // The list of all that could begin an expression says nothing.
  const short = message.replace(/expecting '[!(]', .*$/, 'expecting a value');
  return { ok: false, message: short, ...(typeof offset === 'number' && { offset }) };
}

const OPERATORS = /'?(?:@?_([-+*/%<>=!&|?]+)_|!_|-_|@in)'?/g;

/** A message of CEL without its inner names. */
export function readable(message: string): string {
  return message
    .replace(/^index (-?\d+) out of bounds .*/, 'the list has no item $1')
    .replace(/Maximum call stack size exceeded/, 'its parts are nested too deep')
    .replaceAll(OPERATORS, (name, operator: string | undefined) => `"${operator ?? name.replaceAll(/['@_]/g, '')}"`);
}

/** A map of so many entries, of which the ones used last stay. */
export class Kept<Value> {
  readonly #most: number;
  readonly #entries = new Map<string, Value>();

  constructor(most: number) {
    this.#most = most;
  }

  get(key: string, make: () => Value): Value {
    let value = this.#entries.get(key);
    if (value === undefined) value = make();
    else this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#most) this.#entries.delete(this.#entries.keys().next().value!);
    return value;
  }
}
