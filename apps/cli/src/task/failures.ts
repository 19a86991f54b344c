import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { stateCell, timeText } from '../terminal/words.ts';
import type { FailuresFlags } from './failure-flags.ts';

/** `baton task failures`. */
export async function failures(this: CliContext, flags: FailuresFlags): Promise<void> {
  const baton = await this.connect(flags);
  const { worker, task, type, since, limit } = flags;
  const found = await baton.tasks
    .failures({
      worker,
      taskId: task,
      types: type,
      since: since === undefined ? undefined : new Date(this.now() - since),
      limit,
      signal: this.signal,
    })
    .all();
  if (flags.output === 'json') {
    this.screen.json(found);
    return;
  }
  if (found.length === 0) {
    this.screen.note('nothing of the kind has failed');
    return;
  }
  printTable(
    this.screen,
    ['TIME', 'TYPE', 'TASK', 'KIND', 'ATTEMPT', 'WORKER', 'DEVICE', 'TASK IS NOW', 'WHY'],
    found.map((failure) => [
      timeText(failure.time),
      failure.type,
      failure.taskId,
      failure.kind,
      failure.attempt,
      failure.worker,
      failure.device,
      stateCell(failure.taskState),
      failure.message,
    ]),
  );
}
