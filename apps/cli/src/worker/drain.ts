import type { CliContext } from '../context.ts';
import type { DrainFlags } from './worker-flags.ts';

/** `baton worker drain NAME`. */
export async function drain(this: CliContext, flags: DrainFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { leases } = await baton.workers.drain(name, flags.reason, { signal: this.signal });
  this.record({ worker: name, leases, reason: flags.reason });
  if (flags.output === 'json') this.screen.json({ name, leases });
  else this.screen.line(`worker ${name} drains; it still holds ${leases === 1 ? '1 task' : `${leases} tasks`}`);
}
