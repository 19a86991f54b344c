import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';
import { durationText } from '../terminal/words.ts';

/** A server counts up to this. */
const CAP = 10_000;

/** `baton queue list`. */
export async function list(this: CliContext, flags: CommonFlags): Promise<void> {
  const baton = await this.connect(flags);
  const queues = await baton.queues.list({ signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(queues);
    return;
  }
  if (queues.length === 0) {
    this.screen.note('no queue has been used yet');
    return;
  }
  printTable(
    this.screen,
    ['QUEUE', 'STATE', 'PLANNING', 'READY', 'OLDEST', 'WAITING', 'LEASED'],
    queues.map((queue) => [
      queue.name,
      queue.paused ? { text: '‖ paused', style: 'yellow' } : { text: '● open', style: 'green' },
      [queue.strategy, queue.placement].filter(Boolean).join(' ') || undefined,
      countText(queue.ready),
      durationText(queue.oldestReady, undefined, this.now()),
      countText(queue.waiting),
      countText(queue.leased),
    ]),
  );
}

function countText(count: number): string {
  return count >= CAP ? `${CAP}+` : String(count);
}
