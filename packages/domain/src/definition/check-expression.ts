import type { CheckedExpression, ExpressionScope, Expressions } from './expressions.ts';
import { type Place, type Problems, quote } from './problem.ts';

/** A reference to a node, with its place in the file. */
export interface FoundReference {
  readonly node: string;
  readonly place: Place;
  /** What refers to it, for a sentence: `the input`. */
  readonly by: string;
  readonly isExpression?: boolean;
}

/** Reports what is wrong with an expression, and returns the nodes that it names. */
export function checkExpression(
  problems: Problems,
  place: Place,
  text: string,
  expressions: Expressions,
  scope: ExpressionScope,
): FoundReference[] {
  const checked = expressions.check(text, scope);
  if (checked.ok) {
    const by = `the expression ${quote(text)}`;
    return checked.nodes.map((node) => ({ node, place, by, isExpression: true }));
  }
  const where = checked.offset === undefined ? '' : ` (character ${checked.offset + 1})`;
  const message = `the expression ${quote(text)} is not sound: ${checked.message}${where}`;
  problems.add(place, 'MALFORMED_EXPRESSION', message, checked.hint);
  return [];
}

/** The nodes that an expression names, wherever it stands; none for one that is not sound. */
export function expressionNodes(text: string, expressions: Expressions): readonly string[] {
  for (const items of [undefined, 'for_each', 'matrix'] as const) {
    const checked: CheckedExpression = expressions.check(text, { items });
    if (checked.ok) return checked.nodes;
  }
  return [];
}
