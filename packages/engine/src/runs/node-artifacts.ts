import {
  artifactReference,
  isArtifactValue,
  type JsonValue,
  MAX_ARTIFACTS,
  type NodeDefinition,
  resolveInput,
} from '@baton/domain';
import { findArtifacts, itemTaskIds } from '@baton/store';
import type { ArtifactsWanted } from '../data/artifacts.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { RunContext } from './run-context.ts';

/** What templates of a node are resolved with. */
export interface NodeScope {
  runInput: JsonValue;
  outputs: ReadonlyMap<string, JsonValue>;
  expressions: Parameters<typeof resolveInput>[3];
}

type Found = { ok: true; value: ArtifactsWanted } | { ok: false; message: string };

/**
 * The files that a task of a node is handed. Of a node that runs once for each item and that is named without one: all of them, as
 * `name/0`, `name/1`, … A node that did not succeed, and whose failure does not stop the run, has none: the name is left out.
 */
export async function artifactsOfNode(
  env: EngineEnvironment,
  context: RunContext,
  node: NodeDefinition,
  scope: NodeScope,
): Promise<Found> {
  const { api } = env.pools;
  const { graph } = context.workflow;
  const wanted: Record<string, { sha256: string; taskId?: string }> = {};
  for (const [name, entry] of Object.entries(node.artifacts ?? {})) {
    const reference = artifactReference(entry);
    if (!reference) {
      const resolved = resolveInput(entry, scope.runInput, scope.outputs, scope.expressions);
      if (!resolved.ok)
        return { ok: false, message: `artifact ${JSON.stringify(name)}: ${resolved.unresolved[0]!.message}` };
      if (resolved.value === null) continue;
      if (!isArtifactValue(resolved.value))
        return { ok: false, message: `artifact ${JSON.stringify(name)}: what it refers to names no artifact` };
      wanted[name] = { sha256: resolved.value.sha256 };
      continue;
    }
    const producer = graph.indexOf.get(reference.node)!;
    if (context.progress.state(producer) !== 'succeeded') continue;
    const what = `artifact ${JSON.stringify(reference.artifact)} of node ${JSON.stringify(reference.node)}`;
    const byItem = context.itemTotals.has(producer)
      ? await itemTaskIds(api, context.run.id, producer + 1)
      : new Map<number, string>();
    let tasks: [string, string][];
    if (reference.item !== undefined) {
      const resolved = resolveInput(reference.item, scope.runInput, scope.outputs, scope.expressions);
      if (!resolved.ok) return { ok: false, message: `${what}: ${resolved.unresolved[0]!.message}` };
      const taskId = byItem.get(Number(resolved.value));
      if (taskId === undefined)
        return { ok: false, message: `${what}: it has no item ${JSON.stringify(resolved.value)}` };
      tasks = [[name, taskId]];
    } else if (context.itemTotals.has(producer)) tasks = [...byItem].map(([item, id]) => [`${name}/${item}`, id]);
    else tasks = context.taskIds[producer] ? [[name, context.taskIds[producer]]] : [];
    if (tasks.length > MAX_ARTIFACTS)
      return {
        ok: false,
        message: `${what}: its items have ${tasks.length}; a task is handed at most ${MAX_ARTIFACTS}`,
      };
    const found = await findArtifacts(
      api,
      tasks.map(([, id]) => id),
      reference.artifact,
    );
    for (const [as, taskId] of tasks) {
      const file = found.get(taskId);
      if (!file) return { ok: false, message: `${what}: task ${taskId} has produced no such file` };
      wanted[as] = { sha256: file.sha256, taskId };
    }
    if (tasks.length === 0) return { ok: false, message: `${what}: the node has no task` };
  }
  return { ok: true, value: wanted };
}
