import type { CliContext } from '../context.ts';
import type { ReasonFlags } from './run-flags.ts';

/** `baton run cancel RUN`. */
export async function cancel(this: CliContext, flags: ReasonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const state = await baton.runs.cancel(id, flags.reason, { signal: this.signal });
  this.record({ run_id: id, state, reason: flags.reason });
  if (flags.output === 'json') this.screen.json({ id, state });
  else this.screen.line(`run ${id} is ${state}`);
}
