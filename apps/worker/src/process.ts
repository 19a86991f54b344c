import type { LoadOptions, TaskSource } from '@baton/executors';
import type { Logger } from '@baton/telemetry';
import type { WorkerConfig } from './config.ts';
import { createWorker, type Worker } from './create-worker.ts';

/** Runs a worker until it has stopped; the exit code of its process. */
export async function runWorker(
  config: WorkerConfig,
  log: Logger,
  load: (paths: readonly string[], options: LoadOptions) => Promise<TaskSource>,
): Promise<number> {
  let tasks: TaskSource;
  try {
    tasks = await load(config.modules, {
      watch: config.watch,
      onReload: (path, kinds) => log.info('tasks reloaded', { path, kinds }),
      onError: (error) => log.error('edited tasks not used', { path: error.path, error }),
    });
  } catch (error) {
    log.error('tasks not loaded', { error });
    return 1;
  }
  const make = (port: number): Worker => createWorker({ ...config, url: config.urls, tasks, port, log });
  let worker = make(config.port);
  let failed = false;

  const signals = ['SIGTERM', 'SIGINT'] as const;
  let received = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    received++;
    log.info('signal received', { signal, received });
    void (received === 1 ? worker.drain(signal) : worker.stop(signal));
  };
  // A promise that a task forgot is that task's mistake; the tasks beside it go on.
  const onRejection = (error: unknown) => log.error('unhandled rejection in a task', { error });
  const onException = (error: unknown) => {
    // Nobody knows what state it left: finish what runs, and let a new process go on.
    log.error('uncaught exception', { error });
    failed = true;
    void worker.drain('uncaught exception');
  };
  for (const signal of signals) {
    process.on(signal, onSignal);
  }
  process.on('unhandledRejection', onRejection);
  process.on('uncaughtException', onException);

  try {
    await worker.start();
  } catch (error) {
    if (isPortTaken(error) && !config.portIsFixed) {
      log.info('port taken, any free one is used', { port: config.port });
      worker = make(0);
      await worker.start().catch((again: unknown) => stoppedEarly(again));
    } else {
      stoppedEarly(error);
    }
  }
  if (failed) {
    // Neither working nor ended it would stay for ever, and whoever watches over it would not start it again.
    await worker.stop('did not start');
  } else if (worker.state !== 'stopped') {
    process.stdout.write(`${JSON.stringify({ worker: worker.name, url: worker.url, pid: process.pid })}\n`);
  }
  const reason = await worker.stopped;
  log.info('worker stopped', { reason });
  for (const signal of signals) {
    process.off(signal, onSignal);
  }
  process.off('unhandledRejection', onRejection);
  process.off('uncaughtException', onException);
  return failed ? 1 : 0;

  function stoppedEarly(error: unknown): void {
    // Told to stop before a master was there: that is an end in order.
    if (received === 0) {
      failed = true;
      log.error('worker did not start', { error });
    }
  }
}

function isPortTaken(error: unknown): boolean {
  return error instanceof Error && error.name === 'PortTakenError';
}
