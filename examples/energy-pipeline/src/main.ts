import { ContainerExecutor } from '@baton/contract';
import { assertLoopback, type RunningServer, serve } from '@baton/server';
import { executorRoutes } from './service/executor.ts';
import { SERVICES } from './service/kinds.ts';
import { parseOptions, type ServiceOptions, USAGE, UsageError } from './service/options.ts';

/** How long calls in flight may take to end after SIGTERM. */
const GRACE_MS = 10_000;

let options: ServiceOptions | 'help';
try {
  options = parseOptions(process.argv.slice(2), process.env);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n\n${USAGE}`);
  process.exit(64);
}
if (options === 'help') {
  process.stdout.write(USAGE);
  process.exit(0);
}
await start(options);

async function start({ service, host, port, delayMs, stopWithStdin }: ServiceOptions): Promise<void> {
  const { id, step } = SERVICES[service];
  const log = (level: 'info' | 'error', msg: string, fields: object = {}) =>
    process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), level, service: id, msg, ...fields })}\n`);

  let server: RunningServer;
  try {
    // It reads and writes whatever path it is told, so it is for callers on this machine only.
    assertLoopback(host);
    server = await serve({
      host,
      port,
      services: [ContainerExecutor],
      routes: executorRoutes(step, delayMs, (record) => log(record.success ? 'info' : 'error', 'executed', record)),
      onError: (error, where) => log('error', 'defect', { where, error: String(error) }),
    });
  } catch (error) {
    log('error', 'cannot listen', { host, port, error: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  }

  const stop = (reason: string) => {
    log('info', 'stopping', { reason });
    // A second signal is for those who do not want to wait.
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(130));
    void server.close({ graceMs: GRACE_MS }).then(() => process.exit(0));
  };
  let stopping = false;
  const stopOnce = (reason: string) => {
    if (stopping) return;
    stopping = true;
    stop(reason);
  };
  process.once('SIGTERM', stopOnce);
  if (stopWithStdin) {
    // Ctrl-C reaches the whole group of the terminal. Whoever started the service decides when it may go: callers that
    // drain still need it.
    process.on('SIGINT', () => {});
    process.stdin.on('end', () => stopOnce('end of stdin')).resume();
    // Once the starter has died nobody reads the log, and that must not be what ends the calls in flight.
    process.stderr.on('error', () => {});
  } else process.once('SIGINT', stopOnce);

  const address = `${host.includes(':') ? `[${host}]` : host}:${server.port}`;
  process.stdout.write(`${JSON.stringify({ service: id, address })}\n`);
}
