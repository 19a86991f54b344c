import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';

/** `baton checkpoint delete TASK NUMBER`. */
export async function remove(this: CliContext, flags: CommonFlags, taskId: string, number: number): Promise<void> {
  const baton = await this.connect(flags);
  await baton.checkpoints.delete(taskId, number, { signal: this.signal });
  this.record({ task_id: taskId, checkpoint: number });
  if (flags.output === 'json') this.screen.json({ deleted: 1 });
  else this.screen.note(`checkpoint ${number} of task ${taskId} is deleted`);
}
