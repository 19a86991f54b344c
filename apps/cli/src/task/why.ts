import type { BlockerView } from '@baton/client';
import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { stateCell, timeText } from '../terminal/words.ts';

/** `baton task why TASK`. */
export async function why(this: CliContext, flags: CommonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const explained = await baton.tasks.explain(id, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(explained);
    return;
  }
  this.screen.line(stateCell(explained.state), `  ${explained.summary}`);
  for (const [i, blocker] of explained.blockers.entries()) {
    this.screen.line('');
    this.screen.line({ text: headOf(blocker), style: 'bold' });
    // The first one's message is the summary.
    if (i > 0) this.screen.line(`  ${blocker.message}`);
    if (blocker.missing.length > 0) this.screen.line(`  missing: ${blocker.missing.join(', ')}`);
    this.screen.line({ text: `  ${blocker.remedy}`, style: 'dim' });
  }
}

function headOf({ reason, worker, until }: BlockerView): string {
  return [reason, worker, until && `until ${timeText(until)}`].filter(Boolean).join('  ');
}
