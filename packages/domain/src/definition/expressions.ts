import type { JsonObject, JsonValue } from './json.ts';
import type { NodeState } from './waves.ts';

/** The longest expression, in UTF-16 code units. */
export const MAX_EXPRESSION_LENGTH = 4_096;

/** What an expression may name where it stands, beside `input`, `run` and `nodes`. */
export interface ExpressionScope {
  /** `item` and `index` (in a `for_each`), `matrix` and `index` (in a `matrix`), or nothing more. */
  readonly items?: 'for_each' | 'matrix' | undefined;
}

/** A sound expression with the nodes that it names, each once; or what is wrong with it. */
export type CheckedExpression =
  | { readonly ok: true; readonly nodes: readonly string[] }
  | {
      readonly ok: false;
      /** A sentence without the expression itself. */
      readonly message: string;
      readonly hint?: string;
      /** Where in the expression, from 0, in UTF-16 code units. */
      readonly offset?: number;
    };

/** A node that has ended, as expressions see it. */
export interface NodeView {
  readonly state: NodeState;
  /** null where the node did not succeed. */
  readonly output: JsonValue;
  /** `{ type, message, … }` of a node that failed, else null. */
  readonly failure: JsonObject | null;
}

/** What the names of an expression stand for. */
export interface ExpressionVariables {
  /** The run's input. */
  readonly input: JsonValue;
  /** By id, at least the nodes that the expression names (`CheckedExpression.nodes`). */
  readonly nodes: ReadonlyMap<string, NodeView>;
  readonly run: { readonly id: string; readonly execution: number };
  /** In a `for_each`. */
  readonly item?: JsonValue;
  /** The number of the item, from 0; in a `for_each` and a `matrix`. */
  readonly index?: number;
  /** In a `matrix`: the value of each axis. */
  readonly matrix?: JsonObject;
}

/**
 * The language of expressions (CEL), which the vocabulary does not implement. Both are pure and bounded in time: the
 * same text over the same variables gives the same value, or the same error, everywhere.
 */
export interface Expressions {
  /** Looks at an expression without evaluating it. May keep what it has parsed. */
  check(text: string, scope: ExpressionScope): CheckedExpression;
  /** Looks at a selector of workers and devices. Absent: it is not looked at. */
  checkSelector?(text: string): CheckedExpression;
  /**
   * The value of an expression. JSON numbers that are whole are integers to it, all others are floating point.
   *
   * @throws ExpressionError when it has no value: a name or key that is not there, types that do not fit, a limit
   */
  evaluate(text: string, variables: ExpressionVariables): JsonValue;
}

/** An expression that has no value for these variables. The message is the reason, without the expression. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError';
}
