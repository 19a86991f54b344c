import { type CheckedExpression, didYouMean, type ExpressionScope, quoteText } from '@baton/domain';
import type { Expr, Expr_Call } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js';
import { FUNCTION_NAMES } from './functions.ts';

/** The deepest nesting of an expression's parts. */
export const MAX_PARTS_DEPTH = 200;

/** What an expression reads, whatever its scope. */
export interface Inspected {
  readonly nodes: readonly string[];
  /** The names that stand for something only inside a fan-out, each with its first offset. */
  readonly itemNames: ReadonlyMap<string, number | undefined>;
}

export type Inspection = { readonly ok: true; readonly inspected: Inspected } | Wrong;
export type Wrong = Extract<CheckedExpression, { ok: false }>;

const EVERYWHERE = ['input', 'nodes', 'run'] as const;
const ITEM_NAMES: Readonly<Record<'for_each' | 'matrix', readonly string[]>> = {
  for_each: ['item', 'index'],
  matrix: ['matrix', 'index'],
};
const TAKEN: ReadonlySet<string> = new Set([...EVERYWHERE, 'item', 'index', 'matrix']);
const TYPE_NAMES: ReadonlySet<string> = new Set(
  ['int', 'uint', 'double', 'bool', 'string', 'bytes', 'list', 'map', 'null_type', 'type'].concat(
    'google.protobuf.Timestamp',
    'google.protobuf.Duration',
  ),
);
const NODE_MEMBERS = ['output', 'state', 'failure'] as const;
const RUN_MEMBERS = ['id', 'execution'] as const;
const MACROS: Readonly<Record<string, string>> = {
  has: 'has(value.field)',
  all: 'list.all(x, …)',
  exists: 'list.exists(x, …)',
  exists_one: 'list.exists_one(x, …)',
  map: 'list.map(x, …)',
  filter: 'list.filter(x, …)',
};
/** What the planner itself carries out. */
const BUILT_IN: ReadonlySet<string> = new Set(['_[_]', '_?_:_', '_&&_', '_||_', '@not_strictly_false']);

interface Bound {
  readonly name: string;
  readonly outer: Bound | undefined;
}

interface Visit {
  readonly expr: Expr;
  readonly depth: number;
  readonly bound: Bound | undefined;
}

/** Thrown inside this file only. */
class Refused {
  readonly wrong: Wrong;
  constructor(wrong: Wrong) {
    this.wrong = wrong;
  }
}

/** Names other than those of a run, each with what it has. */
export type Vocabulary = Readonly<Record<string, readonly string[]>>;

/**
 * Which names an expression uses; everything that can be known to be wrong without values is refused.
 *
 * @param vocabulary instead of the names of a run; those that are used come back as `nodes`
 */
export function inspect(root: Expr, positions: Readonly<Record<string, number>>, vocabulary?: Vocabulary): Inspection {
  try {
    return { ok: true, inspected: new Inspector(positions, vocabulary).inspect(root) };
  } catch (refused) {
    if (refused instanceof Refused) return refused.wrong;
    throw refused;
  }
}

/** Whether the names fit the place where the expression stands. */
export function checkScope({ nodes, itemNames }: Inspected, { items }: ExpressionScope): CheckedExpression {
  const known = items === undefined ? [] : ITEM_NAMES[items];
  for (const [name, offset] of itemNames) {
    if (known.includes(name)) continue;
    const where = name === 'index' ? 'a "for_each" or a "matrix"' : `a "${name === 'item' ? 'for_each' : 'matrix'}"`;
    return {
      ok: false,
      message: `${quoteText(name)} stands for something only in the input and the cache key of a node with ${where}`,
      hint: `known here: ${[...EVERYWHERE, ...known].join(', ')}`,
      ...(offset !== undefined && { offset }),
    };
  }
  return { ok: true, nodes };
}

class Inspector {
  readonly #positions: Readonly<Record<string, number>>;
  readonly #nodes = new Set<string>();
  readonly #itemNames = new Map<string, number | undefined>();
  readonly #stack: Visit[] = [];
  readonly #vocabulary: Vocabulary | undefined;
  readonly #taken: ReadonlySet<string>;

  constructor(positions: Readonly<Record<string, number>>, vocabulary: Vocabulary | undefined) {
    this.#positions = positions;
    this.#vocabulary = vocabulary;
    this.#taken = vocabulary ? new Set(Object.keys(vocabulary)) : TAKEN;
  }

  inspect(root: Expr): Inspected {
    this.#push(root, 0, undefined);
    for (let visit = this.#stack.pop(); visit; visit = this.#stack.pop()) this.#visit(visit);
    return { nodes: [...this.#nodes], itemNames: this.#itemNames };
  }

  #push(expr: Expr | undefined, depth: number, bound: Bound | undefined): void {
    if (!expr) return;
    if (depth > MAX_PARTS_DEPTH) {
      this.#refuse(expr, `its parts are nested more than ${MAX_PARTS_DEPTH} deep`, 'split it over several nodes');
    }
    this.#stack.push({ expr, depth, bound });
  }

  #refuse(expr: Expr, message: string, hint?: string): never {
    const offset = this.#positions[String(expr.id)];
    throw new Refused({
      ok: false,
      message,
      ...(hint !== undefined && { hint }),
      ...(offset !== undefined && { offset }),
    });
  }

  #visit({ expr, depth, bound }: Visit): void {
    const push = (part: Expr | undefined, inner = bound): void => this.#push(part, depth + 1, inner);
    const { exprKind } = expr;
    switch (exprKind.case) {
      case 'identExpr':
      case 'selectExpr':
        this.#path(expr, depth, bound);
        break;
      case 'callExpr': {
        const call = exprKind.value;
        if (call.function === '_[_]') {
          this.#path(expr, depth, bound);
          break;
        }
        this.#checkFunction(expr, call);
        push(call.target);
        for (const arg of [...call.args].reverse()) push(arg);
        break;
      }
      case 'listExpr':
        for (const element of [...exprKind.value.elements].reverse()) push(element);
        break;
      case 'structExpr':
        if (exprKind.value.messageName !== '') {
          this.#refuse(expr, `there are no messages here, such as ${quoteText(exprKind.value.messageName)}`);
        }
        for (const entry of [...exprKind.value.entries].reverse()) {
          push(entry.value);
          if (entry.keyKind.case === 'mapKey') push(entry.keyKind.value);
        }
        break;
      case 'comprehensionExpr': {
        const { iterVar, accuVar, accuInit, iterRange, loopCondition, loopStep, result } = exprKind.value;
        if (this.#taken.has(iterVar)) {
          this.#refuse(expr, `${quoteText(iterVar)} has a meaning of its own`, 'give the variable another name');
        }
        const inResult: Bound = { name: accuVar, outer: bound };
        const inLoop: Bound = { name: iterVar, outer: inResult };
        push(result, inResult);
        push(loopStep, inLoop);
        push(loopCondition, inLoop);
        push(accuInit);
        push(iterRange);
        break;
      }
      default:
        break;
    }
  }

  #checkFunction(expr: Expr, call: Expr_Call): void {
    const { function: name } = call;
    if (BUILT_IN.has(name)) return;
    const macro = Object.hasOwn(MACROS, name) ? MACROS[name] : undefined;
    // Those that are used well have become comprehensions.
    if (macro !== undefined) this.#refuse(expr, `${quoteText(name)} is not used as it can be`, `write ${macro}`);
    if (FUNCTION_NAMES.has(name)) return;
    const words = [...FUNCTION_NAMES].filter((known) => /^\w+$/.test(known)).concat(Object.keys(MACROS));
    this.#refuse(
      expr,
      `there is no function ${quoteText(name)}`,
      didYouMean(name, words) ?? `known: ${words.sort().join(', ')}`,
    );
  }

  /** A name with what is looked up in it: `nodes.a["output"].x`. */
  #path(expr: Expr, depth: number, bound: Bound | undefined): void {
    const steps: { name: string | undefined; expr: Expr }[] = [];
    let base = expr;
    for (let below: Expr | undefined = expr; below; ) {
      base = below;
      const { exprKind }: Expr = below;
      if (exprKind.case === 'selectExpr') {
        steps.push({ name: exprKind.value.field, expr: below });
        below = exprKind.value.operand;
      } else if (exprKind.case === 'callExpr' && exprKind.value.function === '_[_]') {
        const [operand, index] = exprKind.value.args;
        const constant = index?.exprKind.case === 'constExpr' ? index.exprKind.value.constantKind : undefined;
        steps.push({ name: constant?.case === 'stringValue' ? constant.value : undefined, expr: below });
        if (!constant) this.#push(index, depth + steps.length, bound);
        below = operand;
      } else {
        below = undefined;
      }
    }
    steps.reverse();
    if (depth + steps.length > MAX_PARTS_DEPTH) this.#push(base, depth + steps.length, bound);
    if (base.exprKind.case === 'identExpr') this.#name(base, base.exprKind.value.name, steps, bound);
    else this.#push(base, depth + steps.length, bound);
  }

  #name(
    expr: Expr,
    written: string,
    steps: readonly { readonly name: string | undefined; readonly expr: Expr }[],
    bound: Bound | undefined,
  ): void {
    for (let scope = bound; scope; scope = scope.outer) if (scope.name === written) return;
    const name = written.replace(/^\./, '');
    const [first, second] = steps;
    if (this.#vocabulary && this.#taken.has(name)) {
      const members = this.#vocabulary[name]!;
      if (first?.name !== undefined && !members.includes(first.name)) {
        const hint = didYouMean(first.name, members) ?? `it has ${members.join(', ')}`;
        this.#refuse(first.expr, `${quoteText(name)} has no ${quoteText(first.name)}`, hint);
      }
      this.#nodes.add(name);
    } else if (this.#vocabulary) {
      if (TYPE_NAMES.has(dotted(name, steps))) return;
      const known = [...this.#taken].map((taken) => `${taken}.…`).join(', ');
      const hint = didYouMean(name, this.#taken) ?? `known: ${known}; a text stands in quotes`;
      this.#refuse(expr, `${quoteText(name)} stands for nothing`, hint);
    } else if (name === 'nodes') {
      if (!first) this.#refuse(expr, '"nodes" is no value of its own', 'write nodes.<id>.output');
      if (first.name === undefined) {
        const message = 'which node is meant must be written out, it cannot be computed';
        this.#refuse(first.expr, message, 'write nodes.<id>, or nodes["<id>"]');
      }
      const members = NODE_MEMBERS.join(', ');
      const id = quoteText(first.name);
      if (!second) this.#refuse(first.expr, `of the node ${id} nothing is named`, `a node has ${members}`);
      if (!NODE_MEMBERS.some((member) => member === second.name)) {
        const wrong =
          second.name === undefined ? 'what is meant must be written out' : `has no ${quoteText(second.name)}`;
        const hint = didYouMean(second.name ?? '', NODE_MEMBERS) ?? `a node has ${members}`;
        this.#refuse(
          second.expr,
          second.name === undefined ? `of the node ${id}, ${wrong}` : `the node ${id} ${wrong}`,
          hint,
        );
      }
      this.#nodes.add(first.name);
    } else if (name === 'run') {
      if (first && !RUN_MEMBERS.some((member) => member === first.name)) {
        this.#refuse(first.expr, `"run" has no ${quoteText(first.name ?? '…')}`, `it has ${RUN_MEMBERS.join(', ')}`);
      }
    } else if (TAKEN.has(name)) {
      if (name !== 'input' && !this.#itemNames.has(name)) {
        this.#itemNames.set(name, this.#positions[String(expr.id)]);
      }
    } else if (!TYPE_NAMES.has(dotted(name, steps))) {
      const hint =
        didYouMean(name, TAKEN) ??
        (first?.name !== undefined && NODE_MEMBERS.some((member) => member === first.name)
          ? `write nodes.${name}.${first.name}`
          : `known: ${[...TAKEN].join(', ')}; a text stands in quotes`);
      this.#refuse(expr, `${quoteText(name)} stands for nothing`, hint);
    }
  }
}

function dotted(name: string, steps: readonly { readonly name: string | undefined }[]): string {
  return [name, ...steps.map((step) => step.name ?? '?')].join('.');
}
