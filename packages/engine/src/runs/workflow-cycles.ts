import { type Problem, quoteText, showCycle, type WorkflowDefinition } from '@baton/domain';

/** A stored definition that a node would run; null: there is none, or it is no graph. */
export type FindDefinition = (
  name: string,
  version: number | null,
) => Promise<{ definition: WorkflowDefinition; version: number } | null>;

/** Of more definitions behind one nobody looks whether they lead back; runs within runs are bounded anyway. */
const MOST_LOOKED_AT = 1_000;

/**
 * Ways back to a definition that is about to become the newest of its name, over what its nodes run, and what that runs: one problem for
 * each node that leads back. What is stored leads nowhere else: it was looked at when it was stored.
 */
export async function workflowCycles(definition: WorkflowDefinition, find: FindDefinition): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const node of definition.nodes) {
    if (node.executor.type !== 'workflow') continue;
    const way = await wayBack(definition.name, node.executor, find);
    if (!way) continue;
    problems.push({
      path: `nodes[${quoteText(node.id)}].workflow`,
      code: 'WORKFLOW_CYCLE',
      message: `the workflow would run itself without end: ${showCycle([definition.name, ...way])}`,
      hint: 'name a "version" of a workflow that does not lead back, or make it one durable function with a loop',
    });
  }
  return problems;
}

interface Reached {
  name: string;
  version: number | null;
  from: Reached | null;
}

/** The names between a definition and itself; null: it does not come back. */
async function wayBack(
  name: string,
  first: { name: string; version: number | null },
  find: FindDefinition,
): Promise<string[] | null> {
  const queue: Reached[] = [{ name: first.name, version: first.version, from: null }];
  const seen = new Set<string>();
  for (let head = 0; head < queue.length && head < MOST_LOOKED_AT; head++) {
    const at = queue[head]!;
    // A pinned version stays what it is.
    if (at.name === name && at.version === null) return namesTo(at.from);
    const found = await find(at.name, at.version);
    if (!found) continue;
    const key = JSON.stringify([at.name, found.version]);
    if (seen.has(key)) continue;
    seen.add(key);
    for (const { executor } of found.definition.nodes)
      if (executor.type === 'workflow') queue.push({ name: executor.name, version: executor.version, from: at });
  }
  return null;
}

function namesTo(last: Reached | null): string[] {
  const names: string[] = [];
  for (let at = last; at; at = at.from) names.unshift(at.name);
  return names;
}
