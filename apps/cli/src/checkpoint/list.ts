import type { CliContext } from '../context.ts';
import { sizeText } from '../terminal/size.ts';
import { printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';
import type { ListFlags } from './checkpoint-flags.ts';

/** `baton checkpoint list TASK`. */
export async function list(this: CliContext, flags: ListFlags, taskId: string): Promise<void> {
  const baton = await this.connect(flags);
  const checkpoints = await baton.checkpoints.list(taskId, { limit: flags.limit, signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(checkpoints);
    return;
  }
  if (checkpoints.length === 0) {
    this.screen.note(`task ${taskId} has no checkpoints; tasks save them by ctx.checkpoint.save()`);
    return;
  }
  printTable(
    this.screen,
    ['NUMBER', 'TIME', 'SIZE', 'SCORE', 'ATTEMPT', 'WORKER', 'SHA-256', 'METADATA'],
    checkpoints.map((checkpoint) => [
      checkpoint.number,
      timeText(checkpoint.time),
      sizeText(checkpoint.sizeBytes),
      checkpoint.score,
      checkpoint.attempt,
      checkpoint.worker,
      checkpoint.sha256.slice(0, 12),
      Object.entries(checkpoint.metadata)
        .map(([key, value]) => `${key}=${value}`)
        .join(' '),
    ]),
  );
}
