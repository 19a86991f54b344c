import { type Graph, wavesOf } from './graph.ts';
import { compareCodeUnits } from './json.ts';

/** Where a node of a run stands. The last four are ends. */
export type NodeState = 'pending' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';

/** The part of a definition that planning reads; a `WorkflowDefinition` is one. */
export interface PlannedGraph {
  readonly nodes: readonly { readonly id: string; readonly needs: readonly string[] }[];
}

/** A definition that breaks its own rules: only one that did not come from this package can. */
export class InvalidDefinitionError extends Error {
  override readonly name = 'InvalidDefinitionError';
}

/**
 * The ids by wave: wave 0 needs nothing, wave n+1 needs something of wave n and nothing later. Within a wave by id.
 *
 * @throws InvalidDefinitionError when the needs name no node or run in a circle
 */
export function topologicalWaves(definition: PlannedGraph): string[][] {
  const waves = completeWaves(graphOf(definition));
  return waves.map((wave) => wave.map((index) => definition.nodes[index]!.id).sort(compareCodeUnits));
}

function completeWaves(graph: Graph): number[][] {
  const waves = wavesOf(graph);
  const placed = waves.reduce((sum, wave) => sum + wave.length, 0);
  if (placed < graph.needs.length) throw new InvalidDefinitionError('the needs of a definition run in a circle');
  return waves;
}

function graphOf(definition: PlannedGraph): Graph {
  const indexes = new Map(definition.nodes.map(({ id }, index) => [id, index]));
  const indexOf = (need: string): number => {
    const index = indexes.get(need);
    if (index === undefined) throw new InvalidDefinitionError(`a definition needs ${JSON.stringify(need)}, not a node`);
    return index;
  };
  return { needs: definition.nodes.map(({ needs }) => needs.map(indexOf)) };
}
