import type { RunJournal } from '../runs/journal-view.ts';
import { parseWith } from '../workflows/standard-schema.ts';
import type { WorkflowFunction } from '../workflows/workflow-function.ts';
import { workflowContext } from './context.ts';
import { NonDeterminism } from './errors.ts';
import { type FunctionClock, FunctionRun } from './function-run.ts';

/** What became of running code against the journal of a run. */
export type ReplayReport =
  /** The code asks for what the journal has, in its order. `entries`: how many it has. */
  | { readonly fits: true; readonly entries: number; readonly ends: boolean }
  /** `number`: the step at which they part; 0: no step's. */
  | { readonly fits: false; readonly number: number; readonly message: string };

/**
 * Runs the code of a workflow against what a run has done, carrying nothing out: no step, no task, no wait. Run it with changed code before
 * that is deployed. `state`: of the run, so that code which goes on where the run had ended is found.
 */
export async function checkReplay(
  workflow: WorkflowFunction,
  journal: RunJournal,
  state: string,
  clock: FunctionClock,
): Promise<ReplayReport> {
  const { runId, entries, input } = journal;
  const run = new FunctionRun({
    runId,
    startMs: journal.createTime.getTime(),
    entries,
    wakes: 0n,
    nowMs: 0,
    journal: null,
    clock,
    signal: new AbortController().signal,
  });
  let parsed: unknown;
  try {
    parsed = await parseWith(workflow.input, input, `the input of workflow "${workflow.id}"`);
  } catch (error) {
    return { fits: false, number: 0, message: (error as Error).message };
  }
  const end = await run.run(() =>
    workflow.run(
      workflowContext(run, runId, () => {}),
      parsed,
    ),
  );
  switch (end.kind) {
    case 'failed': {
      const { error } = end;
      if (error instanceof NonDeterminism) return { fits: false, number: error.number, message: error.message };
      if (state !== 'succeeded') return { fits: true, entries: entries.length, ends: true };
      const message = error instanceof Error ? error.message : String(error);
      return { fits: false, number: 0, message: `the code fails where the run had succeeded: ${message}` };
    }
    case 'caught-up': {
      const next = end.asks.find(({ number }) => !entries.some((entry) => entry.number === number));
      if (state !== 'succeeded' || next === undefined) return { fits: true, entries: entries.length, ends: false };
      return {
        fits: false,
        number: next.number,
        message: `the code goes on with ${next.kind} ${next.number} \`${next.name}\` where the run had ended`,
      };
    }
    default:
      return { fits: true, entries: entries.length, ends: true };
  }
}
