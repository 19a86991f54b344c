import type { NodeState } from '../definition/waves.ts';
import type { RunGraph } from './run-graph.ts';

/** The nodes that go back to pending when an ended run is taken up again, in the order of the definition. */
export interface RetryPlan {
  readonly again: readonly number[];
  /** Those of them whose items all run again; of the others only those that did not succeed. */
  readonly whole: readonly number[];
}

/**
 * What runs again: what failed, was cancelled or was skipped, or the chosen nodes; and everything downstream of it. The rest keeps
 * what it has.
 */
export function planRetryFrom(
  graph: RunGraph,
  states: readonly (NodeState | undefined)[],
  chosen: readonly number[],
): RetryPlan {
  const again = new Uint8Array(graph.nodes.length);
  const whole = new Uint8Array(graph.nodes.length);
  const queue: number[] = [];
  const add = (node: number, entirely: boolean): void => {
    if (entirely) whole[node] = 1;
    if (again[node]) return;
    again[node] = 1;
    queue.push(node);
  };
  for (const node of chosen) add(node, true);
  // Beside chosen nodes, too: what failed or was skipped with them is to be whole in the end.
  for (const [node, state] of states.entries()) if (state !== 'succeeded') add(node, false);
  for (let head = 0; head < queue.length; head++)
    for (const dependent of graph.dependents[queue[head]!]!) add(dependent, true);
  const nodes = [...graph.nodes.keys()];
  return { again: nodes.filter((node) => again[node]), whole: nodes.filter((node) => again[node] && whole[node]) };
}
