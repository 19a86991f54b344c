import type { TaskView } from '@baton/client';
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import type { CommonFlags } from '../flags.ts';
import { durationText, stateCell, timeText } from '../terminal/words.ts';

/** `baton task watch TASK`. A line for each change, on a terminal too: it has one line to say. */
export async function watch(this: CliContext, flags: CommonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  let last: TaskView | undefined;
  for await (const task of baton.tasks.watch(id, { signal: this.signal })) {
    if (flags.output === 'json') this.screen.jsonLine(task);
    else this.screen.line(stateCell(task.state), `  task ${task.id} ${task.kind}${detail(task)}`);
    last = task;
  }
  if (last?.state === 'failed') {
    const why = last.failure ? `${last.failure.type}: ${last.failure.message}` : 'no reason was recorded';
    throw new CliFailure(EXIT.failed, `task ${id} failed: ${why}`);
  }
  if (last?.state === 'cancelled') {
    const why = last.cancelReason === undefined ? '' : `: ${last.cancelReason}`;
    throw new CliFailure(EXIT.failed, `task ${id} was cancelled${why}`);
  }
}

function detail(task: TaskView): string {
  const parts: string[] = [];
  if (task.attempt > 0) parts.push(`attempt ${task.attempt} of ${task.maxAttempts}`);
  if (task.worker !== undefined && task.state !== 'ready') parts.push(`on ${task.worker}`);
  if (task.state === 'backoff' || task.state === 'scheduled') parts.push(`due ${timeText(task.dueTime) ?? 'later'}`);
  if (task.state === 'backoff' && task.failure) parts.push(`${task.failure.type}: ${task.failure.message}`);
  if (task.endTime !== undefined) parts.push(durationText(task.startTime, task.endTime, 0) ?? '');
  const said = parts.filter((part) => part !== '');
  return said.length === 0 ? '' : `, ${said.join(', ')}`;
}
