import type { CliContext } from '../context.ts';
import type { OutputTaskFlags } from './task-flags.ts';

/** `baton task output TASK`. Bytes as they are; a terminal gets them as text that cannot rewrite it. */
export async function output(this: CliContext, flags: OutputTaskFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const { attempt, follow } = flags;
  const from = attempt === undefined ? undefined : { attempt, offset: 0 };
  for await (const part of baton.tasks.output(id, { follow, from, signal: this.signal })) {
    if (flags.output === 'json') {
      this.screen.jsonLine(part);
      continue;
    }
    if (part.reset) this.screen.note(`attempt ${part.attempt} begins anew: what came before is void`);
    if (part.data.length > 0) await this.screen.bytes(part.data);
  }
}
