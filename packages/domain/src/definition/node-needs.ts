import { Fields, readName } from './fields.ts';
import { describeValue, isRecord } from './json.ts';
import { EDGE_TYPES, type EdgeType } from './model.ts';
import { readWord } from './node-options.ts';
import { at, type Place, type Problems, quote } from './problem.ts';

/** A need as it stands in the file. */
export interface ReadNeed {
  readonly name: string;
  readonly place: Place;
  readonly type: EdgeType | undefined;
}

/** Reads `needs`: ids, or `{ node, type }` where a need has a label. What is wrong is reported and left out. */
export function readNeeds(problems: Problems, fields: Fields): ReadNeed[] {
  const value = fields.raw('needs');
  if (value === undefined) return [];
  if (!Array.isArray(value)) {
    const hint = typeof value === 'string' ? `write it as a list: [${quote(value)}]` : undefined;
    const message = `"needs" must be a list of strings, not ${describeValue(value)}`;
    problems.add(fields.at('needs'), 'WRONG_TYPE', message, hint);
    return [];
  }
  const needs: ReadNeed[] = [];
  for (const [index, item] of (value as readonly unknown[]).entries()) {
    const place = at(fields.at('needs'), index);
    if (!isRecord(item)) {
      const name = readName(problems, place, item, 'an item of "needs"');
      if (name !== undefined) needs.push({ name, place, type: undefined });
      continue;
    }
    const need = new Fields(problems, place, item);
    const name = need.requiredName('node');
    const type = readWord(problems, need, 'type', EDGE_TYPES, 'UNKNOWN_EDGE_TYPE');
    need.refuseUnknown(['node', 'type']);
    if (name !== undefined) needs.push({ name, place: need.at('node'), type });
  }
  return needs;
}
