import { createExpressions } from '@baton/expressions';
import type { WorkflowDefinition } from './model.ts';
import {
  type ParsedDefinition,
  parseDefinitionJson as parseJsonWith,
  parseDefinition as parseWith,
} from './parse-definition.ts';

export const expressions = createExpressions();
export const parseDefinition = (value: unknown): ParsedDefinition => parseWith(value, expressions);
export const parseDefinitionJson = (text: string): ParsedDefinition => parseJsonWith(text, expressions);

/** A value to be changed by a test: every field may be anything. */
// biome-ignore lint/suspicious/noExplicitAny: tests break these files in every way that types forbid
export type Broken = any;

/** The energy pipeline as its file has it; listed in another order than it runs. */
export function energyFile(): Broken {
  return {
    workflow_name: 'energy-pipeline',
    start_node: 'energy-generator',
    execution_mode: 'grpc',
    service_registry: {
      'energy-generator': 'localhost:50051',
      'energy-analyzer': 'localhost:50052',
      'report-generator': 'localhost:50053',
    },
    containers: {
      'report-generator': {
        id: 'report-generator',
        input_file: 'data/output2.json',
        output_file: 'data/final.csv',
        next_node: null,
        timeout_seconds: 30,
      },
      'energy-generator': {
        id: 'energy-generator',
        input_file: './data/../data/input.csv',
        output_file: 'data/output1.json',
        next_node: 'energy-analyzer',
        timeout_seconds: 30,
      },
      'energy-analyzer': {
        id: 'energy-analyzer',
        input_file: 'data/output1.json',
        output_file: 'data/output2.json',
        next_node: 'report-generator',
        timeout_seconds: 60,
      },
    },
  };
}

/** A chain file of the given links, from the first. */
export function chainFile(links: Readonly<Record<string, string | null>>): Broken {
  const ids = Object.keys(links);
  const container = (id: string): [string, unknown] => [
    id,
    { id, input_file: 'in', output_file: 'out', next_node: links[id], timeout_seconds: 1 },
  ];
  return {
    workflow_name: 'chain',
    start_node: ids[0],
    execution_mode: 'grpc',
    service_registry: Object.fromEntries(ids.map((id) => [id, 'localhost:1'])),
    containers: Object.fromEntries(ids.map(container)),
  };
}

/** A file of Baton's own form, of nodes that only need each other. */
export function nodesFile(needs: Readonly<Record<string, readonly string[]>>): Broken {
  const entries = Object.entries(needs).map(([id, list]) => [id, { task: 'work', needs: [...list] }]);
  return { name: 'flow', nodes: Object.fromEntries(entries) };
}

/** The definition of a file that is sound. */
export function definitionOf(file: unknown): WorkflowDefinition {
  const parsed = parseDefinition(file);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems, null, 2));
  return parsed.definition;
}

/** The problems of a file, as `CODE path`. */
export function problemsOf(file: unknown): string[] {
  const parsed = parseDefinition(file);
  return parsed.ok ? [] : parsed.problems.map(({ code, path }) => `${code} ${path}`);
}

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
