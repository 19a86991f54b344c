import type { RunNodeView, RunView } from '@baton/client';
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import type { OutputFormat } from '../flags.ts';
import { LiveBlock } from '../terminal/live-block.ts';
import { durationText } from '../terminal/words.ts';
import { nodeTableLines, runHeadline } from './show.ts';

const REDRAW_MS = 1_000;

/**
 * Shows a run until its end: JSON lines, a live table on a terminal, or a line for each change. Throws a failure that
 * says which node and why when the run failed, or that it was cancelled.
 */
export async function followRun(
  context: CliContext,
  watch: AsyncIterable<RunView>,
  output: OutputFormat,
): Promise<void> {
  const { screen } = context;
  let last: RunView | undefined;
  if (output === 'json') {
    for await (const run of watch) {
      screen.jsonLine(run);
      last = run;
    }
  } else if (screen.isLive) {
    last = await followLive(context, watch);
  } else {
    for await (const run of watch) {
      for (const line of changedLines(last, run)) screen.line(line);
      last = run;
    }
  }
  if (last !== undefined) endWith(last);
}

async function followLive(context: CliContext, watch: AsyncIterable<RunView>): Promise<RunView | undefined> {
  const { screen } = context;
  const block = new LiveBlock(screen);
  let last: RunView | undefined;
  const draw = (): void => {
    if (last !== undefined) {
      block.draw([runHeadline(last, context.now()), ...nodeTableLines(last, context.now(), screen)]);
    }
  };
  // The seconds of what is running go on between changes.
  const timer = setInterval(draw, REDRAW_MS);
  try {
    for await (const run of watch) {
      last = run;
      draw();
    }
  } finally {
    clearInterval(timer);
  }
  return last;
}

/** One line for each thing that is not as it was. */
function changedLines(before: RunView | undefined, run: RunView): string[] {
  const lines: string[] = [];
  const earlier = new Map(before?.nodes.map((node) => [node.nodeId, node]));
  if (before === undefined) lines.push(`run ${run.id} ${run.workflowName} ${run.state}`);
  for (const node of run.nodes) {
    const known = earlier.get(node.nodeId);
    if (known === undefined && node.state === 'pending') continue;
    const isSame = known?.state === node.state && known.attempts === node.attempts && known.worker === node.worker;
    if (!isSame) lines.push(nodeLine(node));
  }
  if (before !== undefined && before.state !== run.state) {
    const took = durationText(run.startTime, run.endTime, 0);
    lines.push(`run ${run.id} ${run.workflowName} ${run.state}${run.endTime && took ? ` in ${took}` : ''}`);
  }
  return lines;
}

function nodeLine(node: RunNodeView): string {
  const parts = [`node ${node.nodeId} ${node.state}`];
  if (node.attempts > 0) parts.push(`attempt ${node.attempts}`);
  if (node.endTime !== undefined) parts.push(durationText(node.startTime, node.endTime, 0) ?? '');
  if (node.worker !== undefined) parts.push(`on ${node.worker}`);
  if (node.failure !== undefined) parts.push(`${node.failure.type}: ${node.failure.message}`);
  return parts.filter((part) => part !== '').join(', ');
}

function endWith(run: RunView): void {
  if (run.state === 'failed') {
    const node = run.failedNodeId === undefined ? '' : ` at node "${run.failedNodeId}"`;
    const why = run.failureMessage ?? 'no reason was recorded';
    throw new CliFailure(EXIT.failed, `run ${run.id} failed${node}: ${why}`, [
      `go on from there when it is mended: baton run retry ${run.id}`,
    ]);
  }
  if (run.state === 'cancelled') {
    const why = run.cancelReason === undefined ? '' : `: ${run.cancelReason}`;
    throw new CliFailure(EXIT.failed, `run ${run.id} was cancelled${why}`);
  }
}
