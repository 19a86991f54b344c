import type { CliContext } from '../context.ts';
import { runMain } from '../run-main.ts';

/** `baton worker`. */
export async function start(this: CliContext): Promise<void> {
  await runMain('@baton/worker/main');
}
