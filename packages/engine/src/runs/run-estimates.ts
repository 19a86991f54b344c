import type { WorkflowDefinition } from '@baton/domain';
import { type RunTimes, readRunTimes } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { compileWorkflow } from './run-context.ts';

/** How long runs of a workflow will take, by what earlier ones took. */
export interface RunEstimate {
  /** From start to end, ms; null: nothing is known. */
  runMs: number | null;
  nodeMs: ReadonlyMap<string, number>;
}

export type RunEstimates = (
  namespaceId: number,
  version: number,
  definition: WorkflowDefinition,
) => Promise<RunEstimate>;

const KEEP_MS = 10_000;
/** While the first runs of a version end. */
const KEEP_EARLY_MS = 500;
const KEEP_WORKFLOWS = 500;
/** Of so many nodes in all, those of the newest runs, medians are made. */
const LOOK_AT_NODES = 20_000;
const LOOK_AT_RUNS = 20;

/**
 * Medians of the newest 20 runs that succeeded. Of a run: that of earlier runs of its version, where there are five; else the sum over
 * the waves of the longest node of each, by the medians of nodes of the same id in any version. Kept for ten seconds.
 */
export function createRunEstimates(env: EngineEnvironment): RunEstimates {
  const kept = new Map<string, { until: number; times: Promise<RunTimes> }>();

  return async (namespaceId, version, definition) => {
    const { name, nodes } = definition;
    const key = JSON.stringify([namespaceId, name, version]);
    let known = kept.get(key);
    if (!known || known.until < env.now()) {
      const runs = Math.max(3, Math.min(LOOK_AT_RUNS, Math.floor(LOOK_AT_NODES / nodes.length)));
      known = {
        until: env.now() + KEEP_MS,
        times: readRunTimes(env.pools.api, { namespaceId, name, version }, runs),
      };
      known.times.catch(() => kept.delete(key));
      kept.delete(key);
      kept.set(key, known);
      if (kept.size > KEEP_WORKFLOWS) kept.delete(kept.keys().next().value!);
    }
    const { runMs, nodeMs } = await known.times;
    if (runMs === null) known.until = Math.min(known.until, env.now() + KEEP_EARLY_MS);
    return { nodeMs, runMs: runMs ?? byWaves(definition, nodeMs) };
  };
}

function byWaves(definition: WorkflowDefinition, nodeMs: ReadonlyMap<string, number>): number | null {
  if (nodeMs.size === 0) return null;
  const { waves } = compileWorkflow(definition).graph;
  const longest: number[] = [];
  for (const [index, { id }] of definition.nodes.entries()) {
    const ms = nodeMs.get(id);
    if (ms !== undefined) longest[waves[index]!] = Math.max(longest[waves[index]!] ?? 0, ms);
  }
  return longest.reduce((sum, ms) => sum + (ms ?? 0), 0);
}
