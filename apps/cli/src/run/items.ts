import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { durationText, stateCell } from '../terminal/words.ts';
import type { ItemsFlags } from './run-flags.ts';

/** `baton run items RUN NODE`. */
export async function items(this: CliContext, flags: ItemsFlags, id: string, node: string): Promise<void> {
  const baton = await this.connect(flags);
  const { state, limit } = flags;
  const found = await baton.runs.items(id, node, { states: state, limit, signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(found);
    return;
  }
  if (found.length === 0) {
    this.screen.note('there is no such item: it was not started, or the node has none');
    return;
  }
  printTable(
    this.screen,
    ['ITEM', 'STATE', 'ATTEMPTS', 'TIME', 'WORKER', 'TASK', 'FAILURE'],
    found.map((item) => [
      item.index,
      stateCell(item.state),
      item.attempts,
      durationText(item.startTime, item.endTime, this.now()),
      item.worker,
      item.childRunId ?? item.taskId,
      item.failure && { text: `${item.failure.type}: ${item.failure.message}`, style: 'red' },
    ]),
  );
}
