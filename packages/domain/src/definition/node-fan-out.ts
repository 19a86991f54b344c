import type { FoundReference } from './check-expression.ts';
import type { Expressions } from './expressions.ts';
import { Fields, readName } from './fields.ts';
import { checkTemplate, isReference } from './input-template.ts';
import { describeValue, isRecord, type JsonValue, setOwnValue, type UnknownRecord } from './json.ts';
import { type ForEach, MAX_FOR_EACH_ITEMS } from './model.ts';
import { at, type Place, type Problems, quote } from './problem.ts';

interface FanOut {
  readonly forEach: ForEach | undefined;
  readonly items: 'for_each' | 'matrix' | undefined;
  readonly found: readonly FoundReference[];
}

/** A list is written out or referred to; nothing else can be gone through. */
const LISTS = 'write a list, { "$from": "node", "path": [...] }, { "$input": [...] } or { "$expr": "..." }';

/** Reads `for_each` or `matrix`, of which a node has at most one. */
export function readFanOut(problems: Problems, fields: Fields, expressions: Expressions): FanOut {
  const hasItems = fields.has('for_each');
  const hasMatrix = fields.has('matrix');
  if (hasItems && hasMatrix) {
    const message = 'a node has either "for_each" or "matrix", this one has both';
    problems.add(fields.place, 'TWO_FAN_OUTS', message, 'make the items one of the lists of the matrix');
  }
  const found: FoundReference[] = [];
  const list = (place: Place, value: unknown, what: string): void => {
    if (Array.isArray(value) || isReference(value)) {
      found.push(...checkTemplate(problems, place, value, { expressions, scope: {}, what }));
    } else {
      problems.add(place, 'WRONG_TYPE', `${what} must be a list, not ${describeValue(value)}`, LISTS);
    }
  };
  const overItems = hasItems ? readForEach(problems, fields, list) : undefined;
  const overMatrix = hasMatrix ? readMatrix(problems, fields, list) : undefined;
  const items = hasItems ? 'for_each' : hasMatrix ? 'matrix' : undefined;
  return { forEach: overItems ?? overMatrix, items, found };
}

type ReadList = (place: Place, value: unknown, what: string) => void;

function readForEach(problems: Problems, node: Fields, list: ReadList): ForEach {
  const place = node.at('for_each');
  const value = node.raw('for_each');
  if (!isRecord(value) || isReference(value)) {
    list(place, value, '"for_each"');
    checkCount(problems, place, countOf(value));
    return { items: value as JsonValue };
  }
  const fields = new Fields(problems, place, value);
  const items = fields.raw('items');
  if (fields.require('items')) {
    list(fields.at('items'), items, '"items"');
    checkCount(problems, fields.at('items'), countOf(items));
  }
  const parallel = readParallel(fields);
  fields.refuseUnknown(['items', 'max_parallel']);
  return { items: items as JsonValue, ...parallel };
}

function readMatrix(problems: Problems, node: Fields, list: ReadList): ForEach | undefined {
  const record = node.record('matrix');
  if (!record) return undefined;
  const fields = new Fields(problems, node.at('matrix'), record);
  const inner = fields.raw('axes');
  // An axis may be called "axes", too; but then it is a list or refers to one.
  if (!isRecord(inner) || isReference(inner)) {
    return { matrix: readAxes(problems, node.at('matrix'), record, list) };
  }
  const matrix = readAxes(problems, fields.at('axes'), inner, list);
  const parallel = readParallel(fields);
  fields.refuseUnknown(['axes', 'max_parallel']);
  return { matrix, ...parallel };
}

function readAxes(problems: Problems, place: Place, axes: UnknownRecord, list: ReadList): Record<string, JsonValue> {
  const matrix: Record<string, JsonValue> = {};
  const entries = Object.entries(axes);
  if (entries.length === 0) problems.add(place, 'EMPTY_FIELD', 'the matrix has no lists');
  let count = 1;
  for (const [axis, value] of entries) {
    readName(problems, at(place, axis), axis, 'the name of a list of the matrix');
    list(at(place, axis), value, `the list ${quote(axis)} of the matrix`);
    setOwnValue(matrix, axis, value as JsonValue);
    count *= countOf(value);
  }
  checkCount(problems, place, count);
  return matrix;
}

function readParallel(fields: Fields): { maxParallel?: number } {
  const maxParallel = fields.number('max_parallel', { min: 1, max: MAX_FOR_EACH_ITEMS, integer: true });
  return maxParallel === undefined ? {} : { maxParallel };
}

/** The items that a template has for sure. */
const countOf = (value: unknown): number => (Array.isArray(value) ? value.length : 1);

function checkCount(problems: Problems, place: Place, count: number): void {
  if (count <= MAX_FOR_EACH_ITEMS) return;
  problems.add(place, 'TOO_MANY_ITEMS', `this makes ${count} items, ${MAX_FOR_EACH_ITEMS} is the most`);
}
