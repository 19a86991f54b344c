import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import type { CommonFlags } from '../flags.ts';
import { cleanJson } from '../terminal/clean.ts';
import { durationText, stateCell } from '../terminal/words.ts';

/** `baton task results TASK…`. A line for each task as it ends. */
export async function results(this: CliContext, flags: CommonFlags, ...ids: string[]): Promise<void> {
  const baton = await this.connect(flags);
  let failed = 0;
  for await (const task of baton.tasks.results(ids, { signal: this.signal })) {
    if (task.state !== 'succeeded') failed += 1;
    if (flags.output === 'json') {
      this.screen.jsonLine(task);
      continue;
    }
    const said =
      task.state === 'succeeded'
        ? cleanJson(task.output)
        : task.state === 'failed' && task.failure
          ? `${task.failure.type}: ${task.failure.message}`
          : (task.cancelReason ?? '');
    const time = durationText(task.startTime, task.endTime, this.now()) ?? '-';
    this.screen.line(stateCell(task.state), `  task ${task.id} ${task.kind}, ${time}  ${said}`);
  }
  if (failed > 0) {
    const these = new Set(ids).size === 1 ? 'the task did not succeed' : `${failed} of the tasks did not succeed`;
    throw new CliFailure(EXIT.failed, these);
  }
}
