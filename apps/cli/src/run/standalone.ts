import type { Baton } from '@baton/client';
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT, usageError } from '../exit.ts';
import { takeStopSignals } from '../up/stop-signals.ts';
import type { StartFlags } from './run-flags.ts';

/**
 * Does `work` with a master and a worker in this process, over the embedded Postgres of this home or over DATABASE_URL, and ends them,
 * also at Ctrl-C. Everything is loaded here and now: a command that calls a server has no use for it.
 */
export async function runStandalone(
  context: CliContext,
  flags: StartFlags,
  work: (standalone: { readonly baton: Baton; readonly url: string }, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  if (flags.url !== undefined) throw usageError('--standalone needs no server; leave --url out');
  const { loadTasks } = await import('@baton/worker');
  const { startStandalone } = await import('../standalone/standalone.ts');
  const { home, databaseUrl } = context.config;
  const tasks = flags.tasks && (await loadTasks(flags.tasks));
  const standalone = await startStandalone({
    tasks,
    home: home.value,
    ...(databaseUrl.value !== '' && { databaseUrl: databaseUrl.value }),
  });
  const signals = takeStopSignals({ abort: context.signal });
  const over = new AbortController();
  const interrupted = signals.first.then((signal): never => {
    throw new CliFailure(EXIT.failed, `interrupted by ${signal}: the run goes on in the next process of this home`);
  });
  try {
    await Promise.race([work(standalone, over.signal), interrupted]);
  } finally {
    interrupted.catch(() => {});
    // What follows the run would else look for its master for a while.
    over.abort();
    signals.dispose();
    await standalone.stop();
  }
}
