// The worker process. Prints one line of JSON when a master has taken it: {"worker": name, "url": …, "pid": …}. SIGTERM
// and SIGINT drain it; a second one ends it now. Exit codes: 0 left in order, 1 could not go on, 64 wrong configuration.
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadTasks } from '@baton/executors';
import { createLogger } from '@baton/telemetry';
import { readConfig, type WorkerConfig, WorkerConfigError } from './config.ts';
import { runWorker } from './process.ts';

// Whoever read stderr may have gone. A log line that cannot be shown is no reason to end, or to log again.
process.stderr.on('error', () => {});

/** Whether this file is what was started: `baton worker` imports it, and the words on its command line are its own. */
function isProgram(): boolean {
  const started = process.argv[1];
  return started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url);
}

function configure(): WorkerConfig | undefined {
  try {
    return readConfig(process.env, isProgram() ? process.argv.slice(2) : []);
  } catch (error) {
    if (error instanceof WorkerConfigError) {
      process.stderr.write(`${error.message}\n`);
      return undefined;
    }
    throw error;
  }
}

const config = configure();
if (config === undefined) {
  process.exit(64);
}
const log = createLogger({ name: `worker-${config.name}`, logDir: config.logDir, level: config.logLevel });
const code = await runWorker(config, log, loadTasks);
await log.flush();
process.exit(code);
