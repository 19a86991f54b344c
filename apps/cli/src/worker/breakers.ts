import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { stateCell, timeText } from '../terminal/words.ts';
import type { ListFlags } from './worker-flags.ts';

/** `baton worker breakers`. */
export async function breakers(this: CliContext, flags: ListFlags): Promise<void> {
  const baton = await this.connect(flags);
  const found = await baton.workers.breakers({ includeClosed: flags.all, signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(found);
    return;
  }
  if (found.length === 0) {
    this.screen.note('no breaker is open');
    return;
  }
  printTable(
    this.screen,
    ['WORKER', 'DEVICE', 'STATE', 'SINCE', 'PROBE FROM', 'PROBE', 'SUCCESSES', 'FAILURES', 'WHY'],
    found.map((breaker) => [
      breaker.worker,
      breaker.device,
      stateCell(breaker.state),
      timeText(breaker.changeTime),
      timeText(breaker.probeTime),
      breaker.probeTaskId,
      breaker.successes,
      breaker.failures,
      breaker.reason,
    ]),
  );
}
