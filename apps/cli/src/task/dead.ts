import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';
import type { DeadFlags } from './failure-flags.ts';

/** `baton task dead`. */
export async function dead(this: CliContext, flags: DeadFlags): Promise<void> {
  const baton = await this.connect(flags);
  const { queue, kind, type, all, limit } = flags;
  const filter = { queue, kind, types: type, includeResent: all, limit, signal: this.signal };
  const found = await baton.tasks.dead(filter).all();
  if (flags.output === 'json') {
    this.screen.json(found);
    return;
  }
  if (found.length === 0) {
    this.screen.note('no such task has failed for good');
    return;
  }
  printTable(
    this.screen,
    ['TASK', 'KIND', 'QUEUE', 'ATTEMPTS', 'ENDED', 'TYPE', ...(all ? ['SENT AGAIN AS'] : []), 'WHY'],
    found.map(({ task, resentAs }) => [
      task.id,
      task.kind,
      task.queue,
      task.attempt,
      timeText(task.endTime),
      task.failure?.type,
      ...(all ? [resentAs] : []),
      task.failure?.message,
    ]),
  );
}
