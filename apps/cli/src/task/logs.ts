import type { CliContext } from '../context.ts';
import { timeText } from '../terminal/words.ts';
import type { LogsFlags } from './task-flags.ts';

/** `baton task logs TASK`. */
export async function logs(this: CliContext, flags: LogsFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  for await (const line of baton.tasks.logs(id, { follow: flags.follow, signal: this.signal })) {
    if (flags.output === 'json') {
      this.screen.jsonLine(line);
      continue;
    }
    const head = `${timeText(line.time) ?? ''} ${line.attempt} ${line.stream.padEnd(6)} `;
    this.screen.line({ text: head, style: 'dim' }, line.text);
  }
}
