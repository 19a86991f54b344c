import type { RunNodeView, RunView } from '@baton/client';
import type { Piece, Screen } from '../terminal/screen.ts';
import { type Cell, tableLines } from '../terminal/table.ts';
import { durationText, stateCell } from '../terminal/words.ts';

const NODE_HEADS = ['NODE', 'STATE', 'ATTEMPTS', 'TIME', 'WORKER', 'FAILURE'] as const;
/** Of a graph: nodes of one wave can run side by side, and need something of the wave before. */
const GRAPH_HEADS = ['WAVE', ...NODE_HEADS] as const;

/** `● running  run 42 of energy-pipeline v3  2 of 3 nodes  12.3 s`. */
export function runHeadline(run: RunView, nowMs: number): Piece[] {
  const execution = run.execution > 1 ? `, execution ${run.execution}` : '';
  const took = durationText(run.startTime ?? run.createTime, run.endTime, nowMs) ?? '';
  const estimate =
    run.estimatedMs === undefined || run.endTime !== undefined
      ? ''
      : ` of about ${durationText(new Date(0), new Date(run.estimatedMs), nowMs)}`;
  const waiting = run.waitingFor === undefined ? '' : `  for ${run.waitingFor.join(', ')}`;
  return [
    stateCell(run.state),
    `  run ${run.id} of ${run.workflowName} v${run.workflowVersion}${execution}`,
    `  ${run.nodesSucceeded} of ${run.nodesTotal} ${run.form === 'function' ? 'steps' : 'nodes'}  ${took}${estimate}${waiting}`,
  ];
}

/** The table of a run's nodes; with a screen, no wider and no higher than it is. */
export function nodeTableLines(run: RunView, nowMs: number, screen?: Screen): Piece[][] {
  const { shown, hidden } = screen ? mostTelling(run.nodes, screen.rows - 4) : { shown: run.nodes, hidden: 0 };
  const hasWaves = run.form !== 'function';
  const lines = tableLines(
    hasWaves ? GRAPH_HEADS : NODE_HEADS,
    shown.map((node) => [...(hasWaves ? [node.wave] : []), ...nodeRow(node, nowMs)]),
    screen?.columns,
  );
  if (hidden > 0) lines.push([{ text: `… and ${hidden} more nodes`, style: 'dim' }]);
  return lines;
}

function nodeRow(node: RunNodeView, nowMs: number): Cell[] {
  return [
    node.items ? `${node.nodeId} ${node.items.succeeded + node.items.failed}/${node.items.total}` : node.nodeId,
    stateCell(node.state),
    node.attempts === 0 ? undefined : node.attempts,
    durationText(node.startTime, node.endTime, nowMs) ?? expected(node),
    node.worker,
    node.failure
      ? { text: `${node.failure.type}: ${node.failure.message}`, style: 'red' }
      : (node.skipReason ?? (node.cached && 'used again') ?? undefined),
  ];
}

/** What has not begun says how long it will take, by earlier runs. */
function expected({ state, estimatedMs }: RunNodeView): Cell {
  if (state !== 'pending' || estimatedMs === undefined) return undefined;
  return { text: `~${durationText(new Date(0), new Date(estimatedMs), 0)}`, style: 'dim' };
}

const TELLING: Readonly<Record<string, number>> = { failed: 0, running: 1, cancelled: 2, pending: 3, succeeded: 4 };

/** As many nodes as there is room for, in the run's order: what fails and runs goes before what waits or is done. */
function mostTelling(nodes: readonly RunNodeView[], room: number): { shown: readonly RunNodeView[]; hidden: number } {
  const count = Math.max(1, room);
  if (nodes.length <= count) return { shown: nodes, hidden: 0 };
  const chosen = new Set([...nodes].sort((a, b) => (TELLING[a.state] ?? 5) - (TELLING[b.state] ?? 5)).slice(0, count));
  return { shown: nodes.filter((node) => chosen.has(node)), hidden: nodes.length - count };
}
