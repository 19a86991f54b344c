import { type Graph, wavesOf } from './graph.ts';
import { compareCodeUnits } from './json.ts';

/** Where a node of a run stands. The last four are ends. */
export type NodeState = 'pending' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';

/** Where a run stands. The last three are ends. */
export type RunState = 'running' | 'succeeded' | 'failed' | 'cancelled';

/** The part of a definition that planning reads; a `WorkflowDefinition` is one. */
export interface PlannedGraph {
  readonly nodes: readonly { readonly id: string; readonly needs: readonly string[] }[];
}

/** What to do next with a run. All lists are in the order of the definition. */
export interface RunPlan {
  /** Pending nodes that can start now: everything they need has succeeded. */
  readonly ready: readonly string[];
  /** Pending nodes that can never start any more. */
  readonly skip: readonly string[];
  /** The state of the run once `ready` is started and `skip` is skipped. */
  readonly runState: RunState;
  /** The nodes that have failed. */
  readonly failed: readonly string[];
}

/** A definition that breaks its own rules: only one that did not come from this package can. */
export class InvalidDefinitionError extends Error {
  override readonly name = 'InvalidDefinitionError';
}

/**
 * Plans a run from the states of its nodes; a node without a state is pending. Pure, and the same for the same states,
 * so any number of masters may ask.
 *
 * A failed or cancelled node stops the run: what is running finishes, nothing new starts, everything not started is
 * skipped. The run ends when nothing runs: `failed` if any node failed, else `cancelled` if any was, else `succeeded`.
 * Without either, a skipped node skips only what needs it.
 *
 * @throws InvalidDefinitionError when the needs name no node or run in a circle
 */
export function planRun(definition: PlannedGraph, nodeStates: ReadonlyMap<string, NodeState>): RunPlan {
  const { nodes } = definition;
  const graph = graphOf(definition);
  const states = nodes.map(({ id }) => nodeStates.get(id) ?? 'pending');
  const failed = nodes.filter((_, index) => states[index] === 'failed').map(({ id }) => id);
  const isStopped = failed.length > 0 || states.includes('cancelled');

  const after = [...states];
  for (const index of completeWaves(graph).flat()) {
    if (after[index] !== 'pending') continue;
    const needs = graph.needs[index]!;
    if (isStopped || needs.some((need) => after[need] === 'skipped')) after[index] = 'skipped';
  }
  const isReady = (index: number): boolean =>
    after[index] === 'pending' && graph.needs[index]!.every((need) => after[need] === 'succeeded');
  const ready = nodes.filter((_, index) => isReady(index)).map(({ id }) => id);
  const skip = nodes.filter((_, i) => states[i] === 'pending' && after[i] === 'skipped').map(({ id }) => id);

  let runState: RunState = 'succeeded';
  if (after.includes('running') || after.includes('pending')) runState = 'running';
  else if (failed.length > 0) runState = 'failed';
  else if (after.includes('cancelled')) runState = 'cancelled';
  return { ready, skip, runState, failed };
}

/**
 * The nodes that go back to pending when an ended run is taken up again, in the order of the definition: those that
 * failed, were cancelled or were skipped. Those that succeeded keep what they have.
 */
export function planRetry(definition: PlannedGraph, nodeStates: ReadonlyMap<string, NodeState>): string[] {
  const again: ReadonlySet<NodeState | undefined> = new Set<NodeState>(['failed', 'cancelled', 'skipped']);
  return definition.nodes.map(({ id }) => id).filter((id) => again.has(nodeStates.get(id)));
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
