import type { CliContext } from '../context.ts';
import type { ResetFlags } from './worker-flags.ts';

/** `baton worker reset NAME`. */
export async function reset(this: CliContext, flags: ResetFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { device } = flags;
  const { before } = await baton.workers.resetBreaker(name, { device, signal: this.signal });
  this.record({ worker: name, device, before });
  const what = device === undefined ? `worker ${name}` : `device ${device} of worker ${name}`;
  if (flags.output === 'json') this.screen.json({ name, device, before });
  else this.screen.line(`the breaker of ${what} is closed; it was ${before.replace('_', '-')}`);
}
