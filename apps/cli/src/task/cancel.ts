import type { CliContext } from '../context.ts';
import type { ReasonFlags } from './task-flags.ts';

/** `baton task cancel TASK`. */
export async function cancel(this: CliContext, flags: ReasonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const state = await baton.tasks.cancel(id, flags.reason, { signal: this.signal });
  this.record({ task_id: id, state, reason: flags.reason });
  if (flags.output === 'json') this.screen.json({ id, state });
  else if (state === 'leased') this.screen.line(`task ${id} is leased; its worker is asked to stop`);
  else this.screen.line(`task ${id} is ${state}`);
}
