import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { durationText, stateCell, timeText } from '../terminal/words.ts';
import type { ListFlags } from './run-flags.ts';

/** `baton run list`. */
export async function list(this: CliContext, flags: ListFlags): Promise<void> {
  const baton = await this.connect(flags);
  const { state, workflow, limit } = flags;
  const runs = await baton.runs.list({ states: state, workflowName: workflow, limit, signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(runs);
    return;
  }
  if (runs.length === 0) {
    this.screen.note('there is no such run; start one with `baton run start FILE`');
    return;
  }
  printTable(
    this.screen,
    ['RUN', 'WORKFLOW', 'STATE', 'NODES', 'STARTED', 'TIME', 'FAILURE'],
    runs.map((run) => [
      run.id,
      `${run.workflowName} v${run.workflowVersion}`,
      stateCell(run.state),
      `${run.nodesSucceeded}/${run.nodesTotal}`,
      timeText(run.startTime ?? run.createTime),
      durationText(run.startTime, run.endTime, this.now()),
      run.failureMessage,
    ]),
  );
}
