import { DEFAULT_RETRY } from '../retry.ts';
import { Fields, readAddress, readName, readRecord, secondsToMs } from './fields.ts';
import { compareCodeUnits, type UnknownRecord } from './json.ts';
import {
  CONTAINER_EXECUTOR_METHOD,
  DEFAULT_NODE_QUEUE,
  DEFAULT_NODE_TASK_CLASS,
  MAX_DEFINITION_NODES,
  MAX_TIMEOUT_SECONDS,
  type NodeDefinition,
  type WorkflowDefinition,
} from './model.ts';
import { at, formatPlace, type Place, type Problems, quote, ROOT } from './problem.ts';
import { showCycle } from './show-cycle.ts';

/** The fields of the chain form: the file of the energy pipeline. All are required. */
export const CHAIN_FIELDS = [
  'workflow_name',
  'start_node',
  'execution_mode',
  'service_registry',
  'containers',
] as const;
const CONTAINER_FIELDS = ['id', 'input_file', 'output_file', 'next_node', 'timeout_seconds'] as const;

interface Container {
  readonly id: string;
  readonly place: Place;
  readonly inputFile: string | undefined;
  readonly outputFile: string | undefined;
  readonly timeoutSeconds: number | undefined;
  /** null: the chain ends here. undefined: the link is broken, which has been reported. */
  next: string | null | undefined;
}

/**
 * Reads the chain form. The order is that of the links, never that of the list; each container becomes a call of
 * `ContainerExecutor/Execute` at its service's address with its two paths exactly as configured.
 */
export function readChainForm(problems: Problems, record: UnknownRecord): WorkflowDefinition | undefined {
  const fields = new Fields(problems, ROOT, record);
  const name = fields.requiredName('workflow_name');
  const start = fields.requiredName('start_node');
  const mode = fields.requiredText('execution_mode');
  if (mode !== undefined && mode !== 'grpc') {
    const message = `the execution mode ${quote(mode)} is not known`;
    problems.add(fields.at('execution_mode'), 'UNKNOWN_EXECUTION_MODE', message, 'the only one is "grpc"');
  }
  const registry = readRegistry(problems, fields);
  const containers = readContainers(problems, fields);
  fields.refuseUnknown(CHAIN_FIELDS);

  if (!containers) return undefined;
  if (registry) {
    const used = new Set([...containers.values()].map(({ id }) => id));
    // Only an address that no container uses can be meant for another; a short name is near everything.
    const unused = [...registry.keys()].filter((id) => !used.has(id));
    for (const { id } of containers.values()) {
      if (registry.has(id)) continue;
      const message = `the container ${quote(id)} has no address in "service_registry"`;
      const near = id.length < 3 ? undefined : problems.didYouMean(id, unused);
      const hint = near ?? 'add it as "host:port"';
      problems.add(at(ROOT, 'service_registry', id), 'MISSING_ADDRESS', message, hint);
    }
  }
  checkLinks(problems, containers);
  reportCycles(problems, containers);
  const order = walk(problems, fields, containers, start);
  if (!problems.isEmpty || name === undefined || !order) return undefined;
  return { name, form: 'chain', nodes: toNodes(order, registry!) };
}

/** The addresses by service; undefined as a value where the address is wrong, which has been reported. */
function readRegistry(problems: Problems, fields: Fields): Map<string, string | undefined> | undefined {
  const record = fields.requiredRecord('service_registry');
  if (!record) return undefined;
  const registry = new Map<string, string | undefined>();
  for (const [id, value] of Object.entries(record)) {
    const place = at(fields.at('service_registry'), id);
    readName(problems, place, id, 'the name of a service');
    registry.set(id, readAddress(problems, place, value, `the address of ${quote(id)}`));
  }
  return registry;
}

function readContainers(problems: Problems, fields: Fields): Map<string, Container> | undefined {
  const record = fields.requiredRecord('containers');
  if (!record) return undefined;
  const entries = Object.entries(record);
  const place = fields.at('containers');
  if (entries.length === 0) {
    problems.add(place, 'NO_NODES', '"containers" is empty: there is nothing to run');
    return undefined;
  }
  if (entries.length > MAX_DEFINITION_NODES) {
    const message = `there are ${entries.length} containers, ${MAX_DEFINITION_NODES} is the most`;
    problems.add(place, 'TOO_MANY_NODES', message);
    return undefined;
  }
  const containers = new Map<string, Container>();
  for (const [id, value] of entries) containers.set(id, readContainer(problems, at(place, id), id, value));
  return containers;
}

function readContainer(problems: Problems, place: Place, key: string, value: unknown): Container {
  readName(problems, place, key, 'the name of a container');
  const broken: Container = {
    id: key,
    place,
    inputFile: undefined,
    outputFile: undefined,
    timeoutSeconds: undefined,
    next: undefined,
  };
  const record = readRecord(problems, place, value, `the container ${quote(key)}`);
  if (!record) return broken;
  const fields = new Fields(problems, place, record);
  const id = fields.requiredText('id');
  if (id !== undefined && id !== key) {
    const message = `the id ${quote(id)} disagrees with the key ${quote(key)}`;
    problems.add(fields.at('id'), 'ID_MISMATCH', message, `write "id": ${quote(key)}, or rename the key`);
  }
  const container: Container = {
    id: key,
    place,
    inputFile: fields.requiredText('input_file'),
    outputFile: fields.requiredText('output_file'),
    next: readNext(problems, fields),
    timeoutSeconds: fields.require('timeout_seconds')
      ? fields.number('timeout_seconds', { above: 0, max: MAX_TIMEOUT_SECONDS })
      : undefined,
  };
  fields.refuseUnknown(CONTAINER_FIELDS);
  return container;
}

function readNext(problems: Problems, fields: Fields): string | null | undefined {
  if (fields.raw('next_node') === null) return null;
  if (!fields.has('next_node')) {
    const hint = 'write null where the chain ends';
    problems.add(fields.at('next_node'), 'MISSING_FIELD', 'the field "next_node" is missing', hint);
    return undefined;
  }
  return fields.text('next_node');
}

/** Reports links to nowhere and links to oneself; afterwards every link that is left leads to another container. */
function checkLinks(problems: Problems, containers: ReadonlyMap<string, Container>): void {
  for (const container of containers.values()) {
    const { next, place } = container;
    if (next === null || next === undefined) continue;
    if (next === container.id) {
      const message = `${quote(next)} leads to itself: ${showCycle([next])}`;
      problems.add(at(place, 'next_node'), 'SELF_EDGE', message);
    } else if (!containers.has(next)) {
      const message = `the next node ${quote(next)} is not in "containers"`;
      problems.add(at(place, 'next_node'), 'UNKNOWN_NEXT_NODE', message, problems.didYouMean(next, containers.keys()));
    } else {
      continue;
    }
    container.next = undefined;
  }
}

/** Reports each cycle once, wherever it is, beginning with its smallest id so that list order does not matter. */
function reportCycles(problems: Problems, containers: ReadonlyMap<string, Container>): void {
  const walkOf = new Map<string, number>();
  let walks = 0;
  for (const first of containers.keys()) {
    walks += 1;
    const path: string[] = [];
    let id: string | null | undefined = first;
    while (typeof id === 'string' && !walkOf.has(id)) {
      walkOf.set(id, walks);
      path.push(id);
      id = containers.get(id)!.next;
    }
    if (typeof id !== 'string' || walkOf.get(id) !== walks) continue;
    const cycle = path.slice(path.indexOf(id));
    const smallest = [...cycle].sort(compareCodeUnits)[0]!;
    const turned = [...cycle.slice(cycle.indexOf(smallest)), ...cycle.slice(0, cycle.indexOf(smallest))];
    const place = at(containers.get(turned.at(-1)!)!.place, 'next_node');
    problems.add(place, 'CYCLE', `the links run in a circle: ${showCycle(turned)}`, 'end the chain with null');
  }
}

/** Follows the links from the start; reports an unknown start, and what the links do not reach. */
function walk(
  problems: Problems,
  fields: Fields,
  containers: ReadonlyMap<string, Container>,
  start: string | undefined,
): Container[] | undefined {
  if (start === undefined) return undefined;
  if (!containers.has(start)) {
    const message = `the start node ${quote(start)} is not in "containers"`;
    const hint = problems.didYouMean(start, containers.keys());
    problems.add(fields.at('start_node'), 'UNKNOWN_START_NODE', message, hint);
    return undefined;
  }
  const order: Container[] = [];
  const seen = new Set<string>();
  let last = containers.get(start)!;
  for (let id: string | null | undefined = start; typeof id === 'string' && !seen.has(id); id = last.next) {
    seen.add(id);
    last = containers.get(id)!;
    order.push(last);
  }
  const stop = last.next === null ? undefined : `the links end at ${formatPlace(at(last.place, 'next_node'))}`;
  for (const { id, place } of containers.values()) {
    if (seen.has(id)) continue;
    const message = `the links from ${quote(start)} never reach ${quote(id)}`;
    problems.add(place, 'UNREACHABLE_NODE', message, stop ?? `lead a "next_node" to ${quote(id)}, or remove it`);
  }
  return order;
}

function toNodes(order: readonly Container[], registry: ReadonlyMap<string, string | undefined>): NodeDefinition[] {
  return order.map((container, index) => {
    const before = order[index - 1];
    return {
      id: container.id,
      needs: before ? [before.id] : [],
      executor: { type: 'grpc', address: registry.get(container.id)!, method: CONTAINER_EXECUTOR_METHOD },
      kind: CONTAINER_EXECUTOR_METHOD,
      queue: DEFAULT_NODE_QUEUE,
      taskClass: DEFAULT_NODE_TASK_CLASS,
      tags: [],
      input: { input_file: container.inputFile!, output_file: container.outputFile! },
      retry: DEFAULT_RETRY,
      timeoutMs: secondsToMs(container.timeoutSeconds!),
      priority: 0,
    };
  });
}
