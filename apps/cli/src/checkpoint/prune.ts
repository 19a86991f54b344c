import type { CliContext } from '../context.ts';
import { sizeText } from '../terminal/size.ts';
import type { PruneFlags } from './checkpoint-flags.ts';

/** `baton checkpoint prune TASK`. */
export async function prune(this: CliContext, flags: PruneFlags, taskId: string): Promise<void> {
  const baton = await this.connect(flags);
  const { keep, dropBest } = flags;
  const pruned = await baton.checkpoints.prune(taskId, { keepLast: keep, dropBest, signal: this.signal });
  this.record({ task_id: taskId, deleted: pruned.deleted });
  if (flags.output === 'json') this.screen.json(pruned);
  else this.screen.note(`${pruned.deleted} checkpoints deleted, ${sizeText(pruned.freedBytes)}`);
}
