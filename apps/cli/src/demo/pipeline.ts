import type { Baton, RunNodeView, RunView, WorkflowDefinition } from '@baton/client';
import type { CliContext } from '../context.ts';
import { CliFailure } from '../exit.ts';
import { followRun } from '../run/follow.ts';

/** Runs a definition and shows it until its end, whatever that is. */
export async function runPipeline(
  context: CliContext,
  baton: Baton,
  definition: WorkflowDefinition,
  signal: AbortSignal,
): Promise<RunView> {
  const run = await baton.runs.start(definition, { signal });
  try {
    await followRun(context, run.watch({ signal }), 'table');
  } catch (error) {
    // That the run failed or was cancelled is for the caller to say.
    if (!(error instanceof CliFailure)) throw error;
  }
  return run.status({ signal });
}

/** A node as `npm run demo -- -o json` prints it. */
export interface NodeReport {
  readonly id: string;
  readonly state: string;
  readonly attempts: number;
  readonly seconds: number | null;
  readonly worker: string | null;
  readonly outputHash: string | null;
  readonly failure: string | null;
}

export function nodeReport(node: RunNodeView): NodeReport {
  return {
    id: node.nodeId,
    state: node.state,
    attempts: node.attempts,
    seconds: secondsBetween(node.startTime, node.endTime),
    worker: node.worker ?? null,
    outputHash: node.outputHash ?? null,
    failure: node.failure?.message ?? null,
  };
}

export function secondsBetween(start: Date | undefined, end: Date | undefined): number | null {
  return start === undefined || end === undefined ? null : (end.getTime() - start.getTime()) / 1_000;
}
