import { fileURLToPath } from 'node:url';
import { type Baton, createBaton } from '@baton/client';
import { createLogger } from '@baton/telemetry';
import type { Environment } from '../config.ts';
import { Stack, type StackAddresses, StackStopped } from '../up/stack.ts';
import { stackFailure } from '../up/stack-failure.ts';
import { type StopSignals, takeStopSignals } from '../up/stop-signals.ts';
import { type EnergyServices, startEnergy } from './energy.ts';
import type { DemoOptions } from './options.ts';

/** The module of tasks that the demonstration's workers load. */
export const DEMO_TASKS = fileURLToPath(new URL('./tasks.ts', import.meta.url));

export interface DemoStackOptions extends DemoOptions {
  readonly home: string;
  readonly port: number;
  /** Default: what the environment says. Empty: the embedded Postgres. */
  readonly databaseUrl?: string;
  readonly watch?: boolean;
  readonly restartWorkers?: boolean;
  /** Over the environment, for the children. */
  readonly settings?: Environment;
  /** How long a service holds each call open, by its name. */
  readonly delayMs?: Readonly<Record<string, number>>;
}

/** Everything of a demonstration, while it runs. */
export interface DemoStack {
  readonly stack: Stack;
  readonly addresses: StackAddresses;
  readonly energy: EnergyServices;
  readonly baton: Baton;
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
  readonly signals: StopSignals;
  readonly logDir: string;
}

/** It was stopped from outside before it was over. */
export class DemoInterrupted extends Error {
  override readonly name = 'DemoInterrupted';
}

/**
 * Brings Baton and the energy services up, hands them to `body`, and ends all of it: when the body is done or has failed,
 * and at SIGINT or SIGTERM, wherever it stands then. Throws `DemoInterrupted` for these.
 */
export async function withDemoStack<T>(options: DemoStackOptions, body: (demo: DemoStack) => Promise<T>): Promise<T> {
  const { context, root, home, settings } = options;
  const { config, screen, env } = context;
  const logDir = config.logDir.value;
  const log = createLogger({ name: 'up', logDir, level: config.logLevel.value, people: null });
  const stack = new Stack({
    home,
    logDir,
    port: options.port,
    databaseUrl: options.databaseUrl ?? config.databaseUrl.value,
    workers: 2,
    tasks: [options.tasks ?? DEMO_TASKS],
    watch: options.watch,
    restartWorkers: options.restartWorkers,
    env: { ...env, ...settings },
    log,
    onNotice: (text) => screen.note({ text, style: 'yellow' }),
  });
  const signals = takeStopSignals({ stdin: options.stopWithStdin });
  const interrupted = new AbortController();
  void signals.first.then((signal) => {
    interrupted.abort(new DemoInterrupted(`stopped by ${signal}`));
    return stack.stop();
  });
  void signals.second.then(() => stack.kill());
  const energyStarting = startEnergy(root, options.delayMs);
  energyStarting.catch(() => {}); // told below
  try {
    const addresses = await stack.start();
    const energy = await energyStarting;
    const baton = createBaton({ url: addresses.url });
    return await body({ stack, addresses, energy, baton, signal: interrupted.signal, signals, logDir });
  } catch (error) {
    if (signals.hasCome || error instanceof StackStopped) throw interrupted.signal.reason ?? error;
    throw stackFailure(error, logDir);
  } finally {
    // Workers that drain may still need the services.
    await stack.stop();
    await energyStarting.then((energy) => energy.stop()).catch(() => {});
    signals.dispose();
  }
}
