import type { CliContext } from '../context.ts';
import { runMain } from '../run-main.ts';
import { type StartFlags, workerVariables } from './worker-flags.ts';

/** `baton worker`. */
export async function start(this: CliContext, flags: StartFlags): Promise<void> {
  await runMain('@baton/worker/main', workerVariables(flags));
}
