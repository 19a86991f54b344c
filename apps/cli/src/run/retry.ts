import type { CliContext } from '../context.ts';
import type { RetryFlags } from './run-flags.ts';

/** `baton run retry RUN`. */
export async function retry(this: CliContext, flags: RetryFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const { execution, nodeIds } = await baton.runs.retry(id, { from: flags.from, signal: this.signal });
  this.record({ run_id: id, execution });
  if (flags.output === 'json') {
    this.screen.json({ id, execution, nodeIds });
    return;
  }
  this.screen.line(`run ${id} goes on as execution ${execution}: ${nodeIds.join(', ')}`);
  this.screen.note({ text: `  follow it: baton run watch ${id}`, style: 'dim' });
}
