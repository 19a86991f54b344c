import type { CliContext } from '../context.ts';
import { timeText } from '../terminal/words.ts';
import type { LogsFlags } from './worker-flags.ts';

/** `baton worker logs NAME`: what runs there writes, from the worker itself. */
export async function logs(this: CliContext, flags: LogsFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { task: taskId, follow, recent = follow ? 10 : undefined } = flags;
  for await (const line of baton.workers.logs(name, { taskId, follow, recent, signal: this.signal })) {
    if (flags.output === 'json') {
      this.screen.jsonLine(line);
      continue;
    }
    if (line.skipped !== undefined) this.screen.note(`… ${line.skipped} lines are not shown: they came too fast`);
    const head = `${timeText(line.time) ?? ''} ${line.taskId} ${line.attempt} ${line.stream.padEnd(6)} `;
    this.screen.line({ text: head, style: 'dim' }, line.text);
  }
}
