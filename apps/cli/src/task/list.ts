import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { stateCell, timeText } from '../terminal/words.ts';
import { taskTimeText, taskWorker } from './now.ts';
import type { ListFlags } from './task-flags.ts';

/** `baton task list`. */
export async function list(this: CliContext, flags: ListFlags): Promise<void> {
  const baton = await this.connect(flags);
  const { state, queue, kind, limit } = flags;
  const tasks = await baton.tasks.list({ states: state, queue, kind, limit, signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(tasks);
    return;
  }
  if (tasks.length === 0) {
    this.screen.note('there is no such task; submit one with `baton task submit KIND`');
    return;
  }
  printTable(
    this.screen,
    ['TASK', 'KIND', 'STATE', 'QUEUE', 'ATTEMPT', 'SUBMITTED', 'TIME', 'WORKER'],
    tasks.map((task) => [
      task.id,
      task.kind,
      stateCell(task.state),
      task.queue,
      `${task.attempt}/${task.maxAttempts}`,
      timeText(task.createTime),
      taskTimeText(task, this.now()),
      taskWorker(task),
    ]),
  );
}
