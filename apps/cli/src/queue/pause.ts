import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';

/** `baton queue pause QUEUE`. */
export async function pause(this: CliContext, flags: CommonFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { wasPaused } = await baton.queues.pause(name, { signal: this.signal });
  this.record({ queue: name, paused: true, was_paused: wasPaused });
  if (flags.output === 'json') this.screen.json({ name, paused: true, wasPaused });
  else this.screen.line(wasPaused ? `queue ${name} was paused already` : `queue ${name} is paused; what runs goes on`);
}

/** `baton queue resume QUEUE`. */
export async function resume(this: CliContext, flags: CommonFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { wasPaused } = await baton.queues.resume(name, { signal: this.signal });
  this.record({ queue: name, paused: false, was_paused: wasPaused });
  if (flags.output === 'json') this.screen.json({ name, paused: false, wasPaused });
  else this.screen.line(wasPaused ? `queue ${name} goes on` : `queue ${name} was not paused`);
}
