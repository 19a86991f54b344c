import type { EventView } from '@baton/client';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { timeText } from '../terminal/words.ts';
import type { EventsFlags } from './events-flags.ts';

/** `baton events`. */
export async function events(this: CliContext, flags: EventsFlags): Promise<void> {
  const { type, task, run, cursor, limit = Number.POSITIVE_INFINITY } = flags;
  if (cursor !== undefined && flags.since !== undefined) throw usageError('--cursor and --since exclude each other');
  const since = typeof flags.since === 'number' ? new Date(this.now() - flags.since) : flags.since;
  const baton = await this.connect(flags);
  const subscriptions = [{ types: type, taskIds: task, runIds: run }];
  let count = 0;
  for await (const batch of baton.events.watch({ subscriptions, since, cursor, signal: this.signal })) {
    for (const [i, event] of batch.events.entries()) {
      if (flags.output === 'json') {
        const { subscriptions: _, ...shown } = event;
        // The cursor stands behind the last of the batch: to go on from before that would lose the rest.
        this.screen.jsonLine(i === batch.events.length - 1 ? { ...shown, cursor: batch.cursor } : shown);
      } else {
        this.screen.line({ text: `${timeText(event.time) ?? ''} `, style: 'dim' }, lineOf(event));
      }
      count += 1;
      if (count >= limit) return;
    }
  }
}

function lineOf(event: EventView): string {
  const parts = [event.type.replaceAll('_', ' ').padEnd(22)];
  if (event.taskId !== undefined) parts.push(`task ${event.taskId}`);
  if (event.attempt !== undefined) parts.push(`attempt ${event.attempt}`);
  if (event.runId !== undefined) parts.push(`run ${event.runId}`);
  if (event.worker !== undefined) parts.push(`worker ${event.worker}`);
  return parts.join('  ').trimEnd();
}
