import type { TaskRow } from '../database-dump.ts';
import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { indexHistory, push } from '../history-index.ts';

const RUN_ENDS = ['succeeded', 'failed', 'cancelled'];
const NODE_ENDS = [...RUN_ENDS, 'skipped'];

/** A text that no other node and item has; of a node without items, and of all items of one. */
const keyOf = (nodeId: string, item: number | null | undefined) => JSON.stringify([nodeId, item ?? null]);
const allItemsOf = (nodeId: string) => JSON.stringify([nodeId, 'items']);

/**
 * 8: a node is granted only after all that it needs succeeded; (run, node) starts once per execution; a run is terminal exactly when
 * all its nodes are terminal or skipped.
 */
export function checkRuns(history: History): InvariantResult {
  const found = findings(8, 'nodes after what they need, runs end with their nodes');
  const { database } = history;
  const { grants, outcomes } = indexHistory(history);
  const workflows = new Map(database.workflows.map((w) => [w.key, new Map(w.nodes.map((n) => [n.id, n]))]));
  const tasks = new Map<string, Map<string, TaskRow[]>>();
  for (const task of database.tasks) {
    if (task.runId === null || task.nodeId === null) continue;
    const nodes = tasks.get(task.runId) ?? new Map<string, TaskRow[]>();
    tasks.set(task.runId, nodes);
    push(nodes, keyOf(task.nodeId, task.item), task);
    if (task.item != null) push(nodes, allItemsOf(task.nodeId), task);
  }
  const nodeRows = new Map<string, (typeof database.runNodes)[number][]>();
  for (const node of database.runNodes) push(nodeRows, node.runId, node);

  for (const run of database.runs) {
    // A durable function may start what it likes as often as it likes; its journal says what it has done.
    if (run.form === 'function') continue;
    const runId = run.id;
    const needs = workflows.get(run.workflowKey);
    const ofRun = tasks.get(runId) ?? new Map<string, TaskRow[]>();
    for (const [key, list] of ofRun) {
      const nodeId = list[0]!.nodeId!;
      if (key === allItemsOf(nodeId)) continue;
      found.exercise();
      if (list.length > run.execution)
        found.violate(
          `node ${nodeId} of run ${runId} was started ${list.length} times in ${run.execution} executions`,
          { runId },
        );
      list.forEach((task, i) => {
        const before = i > 0 ? list[i - 1]! : null;
        if (before && !((outcomes.get(before.id)?.endedAtMs ?? Number.POSITIVE_INFINITY) <= task.createdAtMs))
          found.violate(`node ${nodeId} of run ${runId} was started again while it ran`, { runId, taskId: task.id });
        const grantedAtMs = grants.get(task.id)?.[0]?.grantedAtMs;
        if (grantedAtMs === undefined) return;
        for (const need of needs?.get(nodeId)?.needs ?? []) {
          found.exercise();
          const done = (ofRun.get(keyOf(need, null)) ?? []).some((t) => {
            const end = outcomes.get(t.id);
            return end?.state === 'succeeded' && end.endedAtMs <= grantedAtMs;
          });
          if (!done)
            found.violate(`node ${nodeId} of run ${runId} was granted before ${need} had succeeded`, {
              runId,
              taskId: task.id,
            });
        }
        for (const need of needs?.get(nodeId)?.fanNeeds ?? []) {
          found.exercise();
          const items = ofRun.get(allItemsOf(need)) ?? [];
          const done = new Set<number>();
          for (const t of items) {
            const end = outcomes.get(t.id);
            if (end?.state === 'succeeded' && end.endedAtMs <= grantedAtMs) done.add(t.item!);
          }
          const missing = items.find((t) => t.createdAtMs <= grantedAtMs && !done.has(t.item!));
          if (missing)
            found.violate(
              `node ${nodeId} of run ${runId} was granted before item ${missing.item} of ${need} had succeeded`,
              {
                runId,
                taskId: task.id,
              },
            );
        }
      });
    }
    const nodes = nodeRows.get(runId) ?? [];
    found.exercise();
    const isOver = RUN_ENDS.includes(run.state);
    const open = nodes.filter((n) => !NODE_ENDS.includes(n.state));
    if (isOver !== (open.length === 0))
      found.violate(`run ${runId} is ${run.state}, and ${open.length} of its ${nodes.length} nodes have not ended`, {
        runId,
      });
    for (const node of nodes) {
      if (node.taskId === null || !RUN_ENDS.includes(node.state)) continue;
      const end = outcomes.get(node.taskId)?.state;
      if (end !== node.state)
        found.violate(`node ${node.nodeId} of run ${runId} is ${node.state}, its task ${end ?? 'has not ended'}`, {
          runId,
          taskId: node.taskId,
        });
    }
  }
  return found.result();
}
