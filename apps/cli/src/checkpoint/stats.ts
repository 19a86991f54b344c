import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { sizeText } from '../terminal/size.ts';
import { timeText } from '../terminal/words.ts';

/** `baton checkpoint stats [TASK]`. */
export async function stats(this: CliContext, flags: CommonFlags, taskId?: string): Promise<void> {
  const baton = await this.connect(flags);
  const facts = await baton.checkpoints.statistics(taskId, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(facts);
    return;
  }
  const lines: [string, string | undefined][] = [
    ['checkpoints', String(facts.count)],
    ['tasks', String(facts.tasks)],
    ['size', sizeText(facts.sizeBytes)],
    ['in blobs', String(facts.inBlobs)],
    ['oldest', timeText(facts.oldest)],
    ['newest', timeText(facts.newest)],
    ['best score', facts.bestScore === undefined ? undefined : String(facts.bestScore)],
  ];
  for (const [name, value] of lines)
    if (value !== undefined) this.screen.line({ text: name.padEnd(12), style: 'dim' }, value);
}
