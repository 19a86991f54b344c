import type { CliContext } from '../context.ts';
import type { OutputFlags } from '../flags.ts';
import { readVersion, versionText } from './version.ts';

/** `baton version`. */
export async function show(this: CliContext, { output }: OutputFlags): Promise<void> {
  if (output === 'json') this.screen.json(readVersion());
  else this.screen.line(versionText());
}
