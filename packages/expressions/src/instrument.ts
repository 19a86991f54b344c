import type { Expr } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js';
import { STEP_FUNCTION } from './functions.ts';

/**
 * Makes each step of each `map`, `filter`, `all`, `exists` count what it costs: CEL's own evaluation has no bound, and
 * `l.all(a, l.all(b, l.all(c, true)))` goes through n³ items without calling a single function. Changes the tree that it
 * is given, whose depth has been bounded.
 *
 * @returns the number of parts
 */
export function instrument(expr: Expr | undefined): number {
  if (!expr) return 0;
  const { exprKind } = expr;
  switch (exprKind.case) {
    case 'selectExpr':
      return 1 + instrument(exprKind.value.operand);
    case 'callExpr':
      return 1 + instrument(exprKind.value.target) + sum(exprKind.value.args);
    case 'listExpr':
      return 1 + sum(exprKind.value.elements);
    case 'structExpr':
      return exprKind.value.entries.reduce(
        (parts, { keyKind, value }) =>
          parts + instrument(value) + (keyKind.case === 'mapKey' ? instrument(keyKind.value) : 0),
        1,
      );
    case 'comprehensionExpr': {
      const fold = exprKind.value;
      const step = 1 + instrument(fold.loopCondition) + instrument(fold.loopStep);
      const condition = fold.loopCondition!;
      fold.loopCondition = call(condition.id, '_&&_', [
        call(condition.id, STEP_FUNCTION, [constant(condition.id, step)]),
        condition,
      ]);
      return step + instrument(fold.iterRange) + instrument(fold.accuInit) + instrument(fold.result);
    }
    default:
      return 1;
  }
}

const sum = (parts: readonly Expr[]): number => parts.reduce((count, part) => count + instrument(part), 0);

function call(id: bigint, name: string, args: Expr[]): Expr {
  const value = { $typeName: 'cel.expr.Expr.Call' as const, function: name, args };
  return { $typeName: 'cel.expr.Expr', id, exprKind: { case: 'callExpr', value } };
}

function constant(id: bigint, value: number): Expr {
  const constantKind = { case: 'int64Value' as const, value: BigInt(value) };
  const kind = { case: 'constExpr' as const, value: { $typeName: 'cel.expr.Constant' as const, constantKind } };
  return { $typeName: 'cel.expr.Expr', id, exprKind: kind };
}
