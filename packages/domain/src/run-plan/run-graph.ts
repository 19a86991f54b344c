import { dependentsOf, wavesOf } from '../definition/graph.ts';
import type { NodeDefinition } from '../definition/model.ts';
import { InvalidDefinitionError } from '../definition/waves.ts';

/** The part of a node that planning reads; a `NodeDefinition` is one. */
export type PlannedNode = Pick<NodeDefinition, 'id' | 'needs' | 'join' | 'onFailure'>;

/** A definition as numbers: nodes by their place in it. Made once for each version and shared by its runs. */
export interface RunGraph {
  readonly nodes: readonly PlannedNode[];
  readonly indexOf: ReadonlyMap<string, number>;
  readonly needs: readonly (readonly number[])[];
  readonly dependents: readonly (readonly number[])[];
  /** Nodes that nothing needs. */
  readonly leaves: readonly number[];
  /** The wave of each node: 0 needs nothing, n+1 needs something of wave n and nothing later. */
  readonly waves: Int32Array;
}

/** @throws InvalidDefinitionError when the needs name no node or run in a circle */
export function compileGraph(nodes: readonly PlannedNode[]): RunGraph {
  const indexOf = new Map(nodes.map(({ id }, index) => [id, index]));
  const needs = nodes.map((node) =>
    node.needs.map((need) => {
      const index = indexOf.get(need);
      if (index === undefined)
        throw new InvalidDefinitionError(`a definition needs ${JSON.stringify(need)}, not a node`);
      return index;
    }),
  );
  const dependents = dependentsOf({ needs });
  const waves = new Int32Array(nodes.length).fill(-1);
  for (const [wave, members] of wavesOf({ needs }).entries()) for (const node of members) waves[node] = wave;
  if (waves.includes(-1)) throw new InvalidDefinitionError('the needs of a definition run in a circle');
  const leaves = [...nodes.keys()].filter((node) => dependents[node]!.length === 0);
  return { nodes, indexOf, needs, dependents, leaves, waves };
}
