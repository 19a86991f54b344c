import type { HistoryEntryView } from '@baton/client';
import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';
import { stateCell, timeText } from '../terminal/words.ts';

/** `baton task history TASK`. */
export async function history(this: CliContext, flags: CommonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const told = await baton.tasks.history(id, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(told);
    return;
  }
  printTable(
    this.screen,
    ['TIME', 'WHAT', 'STATE', 'ATTEMPT', 'WORKER', 'DETAIL'],
    told.entries.map((entry) => [
      timeText(entry.time),
      entry.what.replaceAll('_', ' '),
      entry.state && stateCell(entry.state),
      entry.attempt === undefined ? undefined : `${entry.attempt} (epoch ${entry.epoch ?? 0})`,
      entry.worker,
      detail(entry),
    ]),
  );
}

function detail(entry: HistoryEntryView): string {
  const parts: string[] = [];
  if (entry.checkpoint !== undefined) parts.push(`checkpoint ${entry.checkpoint}`);
  if (entry.attemptState !== undefined && entry.what === 'attempt_ended') parts.push(entry.attemptState);
  if (entry.failure) parts.push(`${entry.failure.type}: ${entry.failure.message}`);
  else if (entry.message !== '') parts.push(entry.message);
  return parts.join(', ');
}
