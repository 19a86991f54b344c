import type { Placement, QueuePlanning, Strategy } from '@baton/client';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import type { CommonFlags } from '../flags.ts';

export interface SetFlags extends CommonFlags {
  readonly strategy?: Strategy | 'default';
  readonly placement?: Placement | 'default';
}

/** `baton queue set QUEUE`. */
export async function set(this: CliContext, flags: SetFlags, name: string): Promise<void> {
  const { strategy, placement } = flags;
  if (strategy === undefined && placement === undefined) {
    throw usageError('there is nothing to set', 'such as: --strategy fifo, or --placement worst_fit');
  }
  const planning: QueuePlanning = {
    ...(strategy !== undefined && { strategy: strategy === 'default' ? null : strategy }),
    ...(placement !== undefined && { placement: placement === 'default' ? null : placement }),
  };
  const baton = await this.connect(flags);
  const now = await baton.queues.set(name, planning, { signal: this.signal });
  this.record({ queue: name, strategy: now.strategy ?? null, placement: now.placement ?? null });
  if (flags.output === 'json') this.screen.json({ name, ...now });
  else
    this.screen.line(
      `queue ${name}: strategy ${now.strategy ?? "as each master's setting"}, placement ${now.placement ?? "as each master's setting"}`,
    );
}
