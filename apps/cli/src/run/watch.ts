import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { followRun } from './follow.ts';

/** `baton run watch RUN`. */
export async function watch(this: CliContext, flags: CommonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  await followRun(this, baton.runs.watch(id, { signal: this.signal }), flags.output);
}
