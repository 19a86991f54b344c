import type { CliContext } from '../context.ts';
import { sizeText } from '../terminal/size.ts';
import { printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';
import type { ListFlags } from './artifact-flags.ts';

/** `baton artifact list RUN`. */
export async function list(this: CliContext, flags: ListFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const { limit, node: nodeId } = flags;
  const of = flags.task ? { taskId: id } : { runId: id, nodeId };
  const artifacts = await baton.artifacts.list({ ...of, limit, signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(artifacts);
    return;
  }
  if (artifacts.length === 0) {
    this.screen.note(`${flags.task ? 'task' : 'run'} ${id} has no artifacts; tasks leave them by ctx.artifacts.put()`);
    return;
  }
  printTable(
    this.screen,
    ['NODE', 'ITEM', 'NAME', 'SIZE', 'SHA-256', 'WORKER', 'TASK', 'TIME'],
    artifacts.map((artifact) => [
      artifact.nodeId,
      artifact.item,
      artifact.name,
      sizeText(artifact.sizeBytes),
      artifact.sha256.slice(0, 12),
      artifact.worker,
      artifact.taskId,
      timeText(artifact.createTime),
    ]),
  );
}
