import type { FoundReference } from './check-expression.ts';
import { checkExpression } from './check-expression.ts';
import type { Expressions } from './expressions.ts';
import { Fields, readName, secondsToMs } from './fields.ts';
import { checkTemplate } from './input-template.ts';
import { describeValue, type JsonValue, setOwnValue } from './json.ts';
import {
  JOIN_RULES,
  MAX_CACHE_SECONDS,
  MAX_LABEL_LENGTH,
  MAX_NODE_LABELS,
  NODE_TYPES,
  type NodeCache,
  type NodeDefinition,
} from './model.ts';
import { readArtifacts } from './node-artifacts.ts';
import { readFanOut } from './node-fan-out.ts';
import { at, type ProblemCode, type Problems, quote } from './problem.ts';

/** The fields of a node beside what carries it out, its needs, its input and its policy. */
export const OPTION_FIELDS = [
  'when',
  'for_each',
  'matrix',
  'join',
  'on_failure',
  'type',
  'labels',
  'cache',
  'artifacts',
] as const;

export type NodeOptions = Pick<
  NodeDefinition,
  'when' | 'forEach' | 'join' | 'onFailure' | 'type' | 'labels' | 'cache' | 'artifacts'
>;

export interface ReadOptions {
  readonly options: NodeOptions;
  readonly references: readonly FoundReference[];
  /** What the input and the key of the cache may name. */
  readonly items: 'for_each' | 'matrix' | undefined;
}

/** Reads what a node may say beside the rest; what it does not say is absent. */
export function readOptions(problems: Problems, fields: Fields, expressions: Expressions): ReadOptions {
  const references: FoundReference[] = [];
  const when = fields.text('when');
  if (when !== undefined) references.push(...checkExpression(problems, fields.at('when'), when, expressions, {}));
  const { forEach, items, found } = readFanOut(problems, fields, expressions);
  references.push(...found);
  const join = readWord(problems, fields, 'join', JOIN_RULES, 'UNKNOWN_VALUE');
  const onFailure = readWord(problems, fields, 'on_failure', ['stop', 'continue'] as const, 'UNKNOWN_VALUE');
  const type = readWord(problems, fields, 'type', NODE_TYPES, 'UNKNOWN_NODE_TYPE');
  const labels = readLabels(problems, fields);
  const cache = readCache(problems, fields, expressions, items, references);
  const artifacts = readArtifacts(problems, fields, expressions, items, references);
  return {
    references,
    items,
    options: {
      ...(when !== undefined && { when }),
      ...(forEach && { forEach }),
      ...(join !== undefined && join !== 'all' && { join }),
      ...(onFailure === 'continue' && { onFailure }),
      ...(type && { type }),
      ...(labels && { labels }),
      ...(cache && { cache }),
      ...(artifacts && { artifacts }),
    },
  };
}

/** One of a few words, or a problem. */
export function readWord<Word extends string>(
  problems: Problems,
  fields: Fields,
  key: string,
  words: readonly Word[],
  code: ProblemCode,
): Word | undefined {
  const text = fields.text(key);
  const word = words.find((known) => known === text);
  if (text !== undefined && word === undefined) {
    const hint = problems.didYouMean(text, words) ?? `known: ${words.join(', ')}`;
    problems.add(fields.at(key), code, `${quote(key)} cannot be ${quote(text)}`, hint);
  }
  return word;
}

function readLabels(problems: Problems, fields: Fields): Readonly<Record<string, string>> | undefined {
  const record = fields.record('labels');
  if (!record) return undefined;
  const labels: Record<string, string> = {};
  const entries = Object.entries(record);
  if (entries.length > MAX_NODE_LABELS) {
    const message = `there are ${entries.length} labels, ${MAX_NODE_LABELS} is the most`;
    problems.add(fields.at('labels'), 'OUT_OF_RANGE', message);
  }
  for (const [name, value] of entries) {
    const place = at(fields.at('labels'), name);
    readName(problems, place, name, 'the name of a label');
    if (typeof value !== 'string') {
      const hint = typeof value === 'number' || typeof value === 'boolean' ? `put it in quotes: "${value}"` : undefined;
      problems.add(place, 'WRONG_TYPE', `the label ${quote(name)} must be a string, not ${describeValue(value)}`, hint);
    } else if (value.length > MAX_LABEL_LENGTH) {
      const message = `the label ${quote(name)} has ${value.length} characters, ${MAX_LABEL_LENGTH} is the most`;
      problems.add(place, 'OUT_OF_RANGE', message);
    } else if (/[\u0000-\u001f\u007f]/.test(value) || !value.isWellFormed()) {
      const message = `the label ${quote(name)} contains a control character or half a character`;
      problems.add(place, 'INVALID_NAME', message);
    } else {
      setOwnValue(labels, name, value);
    }
  }
  return entries.length === 0 ? undefined : labels;
}

function readCache(
  problems: Problems,
  node: Fields,
  expressions: Expressions,
  items: ReadOptions['items'],
  references: FoundReference[],
): NodeCache | undefined {
  const record = node.record('cache');
  if (!record) return undefined;
  const fields = new Fields(problems, node.at('cache'), record);
  const seconds = fields.require('ttl_seconds')
    ? fields.number('ttl_seconds', { above: 0, max: MAX_CACHE_SECONDS })
    : undefined;
  const key = fields.raw('key');
  if (key !== undefined) {
    const rules = { expressions, scope: { items }, what: 'the key of the cache' };
    references.push(...checkTemplate(problems, fields.at('key'), key, rules));
  }
  fields.refuseUnknown(['ttl_seconds', 'key']);
  if (seconds === undefined) return undefined;
  const ttlMs = secondsToMs(seconds);
  return key === undefined ? { ttlMs } : { ttlMs, key: key as JsonValue };
}
