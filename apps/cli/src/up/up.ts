import { createLogger } from '@baton/telemetry';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { batonCommand, lookAtRuns, showBanner, type Try } from './banner.ts';
import { Stack, type StackAddresses, StackStopped } from './stack.ts';
import { stackFailure } from './stack-failure.ts';
import { stayUntilStopped } from './stay.ts';
import { takeStopSignals } from './stop-signals.ts';
import type { UpFlags } from './up-flags.ts';

/** `baton up`. Stays until it is stopped. */
export async function up(this: CliContext, flags: UpFlags): Promise<void> {
  const { config, screen, env } = this;
  const tasks = flags.tasks ?? [];
  const odd = tasks.find((path) => path.includes(','));
  if (odd !== undefined) throw usageError(`"${odd}" has a comma in its name, which separates modules`);
  const log = createLogger({ name: 'up', logDir: config.logDir.value, level: config.logLevel.value, people: null });
  const stack = new Stack({
    home: config.home.value,
    logDir: config.logDir.value,
    port: flags.port ?? config.port.value,
    databaseUrl: config.databaseUrl.value,
    workers: flags.workers,
    tasks,
    watch: flags.watch,
    env,
    log,
    onNotice: (text) => screen.note({ text, style: 'yellow' }),
  });
  const signals = takeStopSignals({ abort: this.signal });
  void signals.first.then(() => stack.stop());
  void signals.second.then(() => stack.kill());
  try {
    const addresses = await stack.start();
    this.record({ url: addresses.url, workers: addresses.workers.length });
    if (flags.output === 'json') screen.jsonLine(publicAddresses(addresses));
    const [home, logDir] = [config.home.value, config.logDir.value];
    showBanner(screen, { addresses, home, logDir, tries: triesOf(addresses, home, env.PATH, tasks.length > 0) });
    await stayUntilStopped(stack, signals, screen);
  } catch (error) {
    if (!(error instanceof StackStopped)) throw stackFailure(error, config.logDir.value);
  } finally {
    signals.dispose();
  }
}

/** All that may be known, in one object: the superuser's URL may not. */
function publicAddresses({ url, workers, postgres }: StackAddresses): object {
  const { psqlUrl, adopted, server } = postgres;
  return { url, pid: process.pid, workers, postgres: { psqlUrl, adopted, ...server } };
}

function triesOf(addresses: StackAddresses, home: string, path: string | undefined, hasTasks: boolean): Try[] {
  const { url } = addresses;
  return [
    hasTasks
      ? { what: 'the workers, and the tasks that they know', command: batonCommand(home, url, 'worker list -o json') }
      : { what: 'a project with a task of your own', command: 'npx baton init my-project' },
    { what: 'how everything is', command: batonCommand(home, url, 'status') },
    lookAtRuns(path, addresses, home),
  ];
}
