import type { FoundReference } from './check-expression.ts';
import type { Expressions } from './expressions.ts';
import { Fields, readAddress, readName, readRecord } from './fields.ts';
import { wavesOf } from './graph.ts';
import { checkTemplate } from './input-template.ts';
import { compareCodeUnits, describeValue, isRecord, type JsonValue, setOwnValue, type UnknownRecord } from './json.ts';
import {
  MAX_DEFINITION_EDGES,
  MAX_DEFINITION_NODES,
  type NodeDefinition,
  type NodeExecutor,
  type WorkflowDefinition,
} from './model.ts';
import { readExecutor } from './node-executor.ts';
import { checkGraph, type GraphNode } from './node-graph.ts';
import { type ReadNeed, readNeeds } from './node-needs.ts';
import { type NodeOptions, OPTION_FIELDS, readOptions } from './node-options.ts';
import { completePolicy, POLICY_FIELDS, type Policy, readPolicy } from './node-policy.ts';
import { at, type Place, type Problems, quote, ROOT } from './problem.ts';
import { showCycle } from './show-cycle.ts';

/** The fields of Baton's own form. `name` and `nodes` are required. */
export const NODES_FIELDS = ['$schema', 'name', 'description', 'defaults', 'services', 'output', 'nodes'] as const;
const NODE_FIELDS = [
  'id',
  'needs',
  'task',
  'grpc',
  'process',
  'http',
  'container',
  'workflow',
  'version',
  'input',
  ...OPTION_FIELDS,
  ...POLICY_FIELDS,
] as const;

interface ReadNode extends GraphNode {
  readonly needs: readonly ReadNeed[];
  readonly options: NodeOptions;
  readonly executor: NodeExecutor | undefined;
  readonly input: JsonValue;
  readonly policy: Policy;
}

/** Reads Baton's own form: nodes with `needs`, as an object by id or as a list of objects with an `id`. */
export function readNodesForm(
  problems: Problems,
  record: UnknownRecord,
  expressions: Expressions,
): WorkflowDefinition | undefined {
  const fields = new Fields(problems, ROOT, record);
  // For editors.
  fields.text('$schema');
  const name = fields.requiredName('name');
  const description = fields.has('description') ? fields.text('description') : undefined;
  const defaultsRecord = fields.record('defaults');
  let defaults: Policy = {};
  if (defaultsRecord) {
    const defaultFields = new Fields(problems, fields.at('defaults'), defaultsRecord);
    defaults = readPolicy(problems, defaultFields, expressions);
    defaultFields.refuseUnknown(POLICY_FIELDS);
  }
  const services = readServices(problems, fields);
  const output = fields.raw('output');
  let references: FoundReference[] = [];
  if (output !== undefined) {
    references = checkTemplate(problems, fields.at('output'), output, { expressions, scope: {}, what: 'the output' });
  }
  const nodes = readNodes(problems, fields, { services, expressions });
  fields.refuseUnknown(NODES_FIELDS);
  if (!nodes) return undefined;
  if (name !== undefined) refuseItself(problems, name, nodes);

  const graph = checkGraph(problems, nodes, references);
  if (!problems.isEmpty || name === undefined || !graph) return undefined;
  const order = wavesOf(graph).flatMap((wave) => wave.map((index) => nodes[index]!).sort(byId));
  return {
    name,
    form: 'nodes',
    nodes: order.map((node) => toNode(node, defaults)),
    ...(description !== undefined && { description }),
    ...(output !== undefined && { output: output as JsonValue }),
  };
}

/** A run of it would start one of it, and that one another: that of a version is another workflow. */
function refuseItself(problems: Problems, name: string, nodes: readonly ReadNode[]): void {
  for (const { executor, place } of nodes)
    if (executor?.type === 'workflow' && executor.name === name && executor.version === null)
      problems.add(
        at(place, 'workflow'),
        'WORKFLOW_CYCLE',
        `the workflow would run itself without end: ${showCycle([name])}`,
        'what repeats is a "for_each", or a loop in a durable function',
      );
}

function byId(a: ReadNode, b: ReadNode): number {
  return compareCodeUnits(a.id, b.id);
}

/** The addresses by service name; undefined as a value where the address is wrong, which has been reported. */
function readServices(problems: Problems, fields: Fields): Map<string, string | undefined> {
  const services = new Map<string, string | undefined>();
  for (const [name, value] of Object.entries(fields.record('services') ?? {})) {
    const place = at(fields.at('services'), name);
    readName(problems, place, name, 'the name of a service');
    services.set(name, readAddress(problems, place, value, `the address of ${quote(name)}`));
  }
  return services;
}

/** What the nodes of a file are read with. */
interface Surroundings {
  readonly services: ReadonlyMap<string, string | undefined>;
  readonly expressions: Expressions;
}

function readNodes(problems: Problems, fields: Fields, surroundings: Surroundings): ReadNode[] | undefined {
  if (!fields.require('nodes')) return undefined;
  const place = fields.at('nodes');
  const value = fields.raw('nodes');
  const isList = Array.isArray(value);
  if (!isList && !isRecord(value)) {
    const message = `"nodes" must be an object of nodes by id, or a list of nodes, not ${describeValue(value)}`;
    problems.add(place, 'WRONG_TYPE', message);
    return undefined;
  }
  const entries: [string | number, unknown][] = isList ? [...(value as unknown[]).entries()] : Object.entries(value);
  if (entries.length === 0) {
    problems.add(place, 'NO_NODES', '"nodes" is empty: there is nothing to run');
    return undefined;
  }
  if (entries.length > MAX_DEFINITION_NODES) {
    problems.add(place, 'TOO_MANY_NODES', `there are ${entries.length} nodes, ${MAX_DEFINITION_NODES} is the most`);
    return undefined;
  }
  const nodes: ReadNode[] = [];
  let edges = 0;
  for (const [key, item] of entries) {
    const node = readNode(problems, at(place, key), key, item, surroundings);
    if (node) nodes.push(node);
    edges += node?.needs.length ?? 0;
  }
  if (edges > MAX_DEFINITION_EDGES) {
    problems.add(place, 'TOO_MANY_EDGES', `there are ${edges} needs in all, ${MAX_DEFINITION_EDGES} is the most`);
    return undefined;
  }
  return nodes;
}

/** One node; without an id, in a list, it is checked and then left out, for nothing can refer to it. */
function readNode(
  problems: Problems,
  place: Place,
  key: string | number,
  value: unknown,
  { services, expressions }: Surroundings,
): ReadNode | undefined {
  const title = typeof key === 'string' ? `the node ${quote(key)}` : 'a node';
  if (typeof key === 'string') readName(problems, place, key, 'the id of a node');
  const record = readRecord(problems, place, value, title);
  if (!record) {
    return typeof key === 'string'
      ? { id: key, place, needs: [], references: [], executor: undefined, input: {}, policy: {}, options: {} }
      : undefined;
  }
  const fields = new Fields(problems, place, record);
  const id = readId(problems, fields, key);
  const needs = readNeeds(problems, fields);
  const executor = readExecutor(problems, fields, services);
  const { options, references: named, items } = readOptions(problems, fields, expressions);
  let references: readonly FoundReference[] = named;
  if (fields.has('input')) {
    const rules = { expressions, scope: { items } };
    references = [...checkTemplate(problems, fields.at('input'), fields.raw('input'), rules), ...named];
  }
  const policy = readPolicy(problems, fields, expressions);
  fields.refuseUnknown(NODE_FIELDS);
  if (id === undefined) return undefined;
  return { id, place, needs, references, executor, input: (fields.raw('input') ?? {}) as JsonValue, policy, options };
}

/** The id: the key of an object, where an `id` field may repeat it, or the `id` field of a list's item. */
function readId(problems: Problems, fields: Fields, key: string | number): string | undefined {
  if (typeof key === 'number') return fields.requiredName('id');
  const id = fields.text('id');
  if (id !== undefined && id !== key) {
    const message = `the id ${quote(id)} disagrees with the key ${quote(key)}`;
    problems.add(fields.at('id'), 'ID_MISMATCH', message, 'the key is the id: leave the field out');
  }
  return key;
}

function toNode(node: ReadNode, defaults: Policy): NodeDefinition {
  const executor = node.executor!;
  return {
    id: node.id,
    needs: node.needs.map((need) => need.name).sort(compareCodeUnits),
    executor,
    kind: kindOf(executor, node.id),
    input: node.input,
    ...completePolicy(node.policy, defaults),
    ...node.options,
    ...edgeTypesOf(node),
  };
}

/** The labels of a node's needs, where they are not what a need is anyway. */
function edgeTypesOf({ needs }: ReadNode): Pick<NodeDefinition, 'edgeTypes'> {
  const edgeTypes: Record<string, 'control' | 'reward'> = {};
  for (const { name, type } of needs) if (type === 'control' || type === 'reward') setOwnValue(edgeTypes, name, type);
  return Object.keys(edgeTypes).length === 0 ? {} : { edgeTypes };
}

function kindOf(executor: NodeExecutor, id: string): string {
  switch (executor.type) {
    case 'function':
      return executor.kind;
    case 'grpc':
      return executor.method;
    case 'workflow':
      return executor.name;
    default:
      return id;
  }
}
