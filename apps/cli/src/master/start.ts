import type { CliContext } from '../context.ts';
import { runMain } from '../run-main.ts';

/** `baton master`. */
export async function start(this: CliContext): Promise<void> {
  await runMain('@baton/master/main');
}
