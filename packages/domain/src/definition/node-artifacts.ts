import { artifactNameProblem, MAX_ARTIFACTS } from '../artifact-name.ts';
import type { FoundReference } from './check-expression.ts';
import type { Expressions } from './expressions.ts';
import type { Fields } from './fields.ts';
import { checkTemplate, templateNodes } from './input-template.ts';
import { isRecord, type JsonValue, ownValue, setOwnValue } from './json.ts';
import type { NodeDefinition } from './model.ts';
import { at, type Place, type Problems, quote } from './problem.ts';

/** `{ "$from": "node", "artifact": "name" }`: a file that another node has produced; `item`: of one of its items. */
export interface ArtifactReference {
  readonly node: string;
  readonly artifact: string;
  /** A template of the number of the item. Absent: the node's; of one that runs once for each item, all of them. */
  readonly item?: JsonValue;
}

const FIELDS = ['$from', 'artifact', 'item'];
const FORM = 'write { "$from": "node", "artifact": "name" }, or what gives an artifact that is in an output';

/** What an entry of `artifacts` refers to directly; undefined: it is a template whose value names an artifact. */
export function artifactReference(entry: JsonValue): ArtifactReference | undefined {
  if (!isRecord(entry) || !Object.hasOwn(entry, '$from') || !Object.hasOwn(entry, 'artifact')) return undefined;
  const { $from: node, artifact, item } = entry as { $from: string; artifact: string; item?: JsonValue };
  return { node, artifact, ...(item !== undefined && { item }) };
}

/** Reads `artifacts`: the files that a node's tasks are handed, by the names that they know them by. */
export function readArtifacts(
  problems: Problems,
  fields: Fields,
  expressions: Expressions,
  items: 'for_each' | 'matrix' | undefined,
  references: FoundReference[],
): NodeDefinition['artifacts'] {
  const record = fields.record('artifacts');
  if (!record) return undefined;
  const artifacts: Record<string, JsonValue> = {};
  const names = Object.keys(record);
  const place = fields.at('artifacts');
  if (names.length > MAX_ARTIFACTS)
    problems.add(place, 'OUT_OF_RANGE', `there are ${names.length} artifacts, ${MAX_ARTIFACTS} is the most`);
  for (const name of names) {
    const entry = ownValue(record, name);
    const here = at(place, name);
    const problem = artifactNameProblem(name);
    if (problem) problems.add(here, 'INVALID_NAME', `the artifact ${quote(name)} ${problem}`);
    const rules = { expressions, scope: { items }, what: `the artifact ${quote(name)}` };
    if (isRecord(entry) && Object.hasOwn(entry, 'artifact'))
      references.push(...checkReference(problems, here, entry, rules));
    else if (isRecord(entry)) references.push(...checkTemplate(problems, here, entry, rules));
    else problems.add(here, 'WRONG_TYPE', `the artifact ${quote(name)} must refer to one`, FORM);
    setOwnValue(artifacts, name, entry as JsonValue);
  }
  return names.length === 0 ? undefined : artifacts;
}

function checkReference(
  problems: Problems,
  place: Place,
  entry: Readonly<Record<string, unknown>>,
  rules: Parameters<typeof checkTemplate>[3] & { what: string },
): FoundReference[] {
  for (const key of Object.keys(entry))
    if (!FIELDS.includes(key))
      problems.add(at(place, key), 'MALFORMED_REFERENCE', `an artifact has no field ${quote(key)}`, FORM);
  const node = ownValue(entry, '$from');
  const artifact = ownValue(entry, 'artifact');
  const problem = typeof artifact === 'string' ? artifactNameProblem(artifact) : 'must be the name of an artifact';
  if (problem) problems.add(at(place, 'artifact'), 'MALFORMED_REFERENCE', `"artifact" ${problem}`, FORM);
  const found: FoundReference[] = [];
  if (Object.hasOwn(entry, 'item'))
    found.push(...checkTemplate(problems, at(place, 'item'), ownValue(entry, 'item'), { ...rules, what: 'the item' }));
  if (typeof node === 'string') found.push({ node, place: at(place, '$from'), by: rules.what });
  else problems.add(at(place, '$from'), 'MALFORMED_REFERENCE', '"$from" must be the id of a node', FORM);
  return found;
}

/** The nodes that a node's artifacts come from, or are told by. */
export function artifactNodes({ artifacts }: NodeDefinition, expressions: Expressions): Set<string> {
  const nodes = new Set<string>();
  for (const entry of Object.values(artifacts ?? {})) {
    const reference = artifactReference(entry);
    if (reference) nodes.add(reference.node);
    for (const node of templateNodes(reference ? (reference.item ?? null) : entry, expressions)) nodes.add(node);
  }
  return nodes;
}
