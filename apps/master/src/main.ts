/** The master process. One JSON line on stdout when it serves; everything else goes to the log. */
import { createLogger } from '@baton/telemetry';
import { ConfigProblems, type MasterConfig, readConfig } from './config.ts';
import { boundHeapGrowth } from './heap-growth.ts';
import { startMaster } from './start.ts';

// Whoever read stderr may have gone. A log line that cannot be shown is no reason to end, or to log again.
process.stderr.on('error', () => {});

const USAGE = 64;

/** What a start-up failure is told with: its own words, and what to do. */
function hintFor(error: Error & { hint?: string }, config: MasterConfig): string {
  if (error.hint) return error.hint;
  if (error.name === 'PortTakenError')
    return `port ${config.port} is taken: stop what listens there (baton doctor names it), or choose another: BATON_PORT=0 takes any free one`;
  if (error.name === 'NotLoopbackError')
    return 'without tokens a master serves this machine only: leave BATON_HOST unset';
  return '';
}

boundHeapGrowth();

let config: MasterConfig;
try {
  config = readConfig(process.env);
} catch (error) {
  if (!(error instanceof ConfigProblems)) throw error;
  for (const problem of error.problems) process.stderr.write(`${problem}\n`);
  process.exit(USAGE);
}

const log = createLogger({ name: 'master', logDir: config.logDir, level: config.logLevel });
try {
  const master = await startMaster(config, log);
  process.stdout.write(`${JSON.stringify({ master: master.id, url: master.url, pid: process.pid })}\n`);
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    signals++;
    log.info('signal received', { signal, received: signals });
    // Whoever asks twice does not want to wait.
    if (signals > 1) process.exit(1);
    void master.stop();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  const why = await master.stopped;
  await log.flush();
  process.exit(why ? 1 : 0);
} catch (error) {
  log.error('master did not start', { error });
  const hint = hintFor(error as Error, config);
  if (hint) process.stderr.write(`${hint}\n`);
  await log.flush();
  process.exit(1);
}
