import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { SERVICES, type ServiceId, type ServiceName } from './service/kinds.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const START_TIMEOUT_MS = 20_000;
/** A service has this long to end by itself before it is killed: its own grace for calls in flight, and a little. */
const STOP_TIMEOUT_MS = 12_000;

export interface LaunchOptions {
  /** How long services hold a call open before they write: all of them, or by id. Default 0. */
  readonly delayMs?: number | Partial<Record<ServiceId, number>>;
  /** Loopback address. Default 127.0.0.1. */
  readonly host?: string;
  /** By id. Default: any free port. */
  readonly ports?: Partial<Record<ServiceId, number>>;
  /** The directory that relative paths of calls start from. Default: that of this process. */
  readonly cwd?: string;
  /** Receives each line of the services' logs (JSON). Default: dropped. */
  readonly onLog?: (id: ServiceId, line: string) => void;
}

export interface EnergyServices {
  readonly services: Readonly<Record<ServiceId, { readonly address: string; readonly pid: number }>>;
  /** Ends all three (SIGTERM, then SIGKILL) and waits until they are gone. May be called more than once. */
  stop(): Promise<void>;
}

/** A service did not come up; the message holds the end of its log. */
export class ServiceStartError extends Error {
  override readonly name = 'ServiceStartError';
}

/**
 * Starts generator, analyzer and reporter, each its own process, and resolves when all listen. They end when `stop` is
 * called, and also by themselves when this process dies, however it dies.
 *
 * @throws ServiceStartError when one of them does not come up; the others are stopped first
 */
export async function startEnergyServices(options: LaunchOptions = {}): Promise<EnergyServices> {
  const started = (Object.keys(SERVICES) as ServiceName[]).map((name) => launch(name, options));
  const stop = async () => {
    await Promise.all(started.map(({ child }) => end(child)));
  };
  const outcomes = await Promise.allSettled(started.map(({ address }) => address));
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  const services = Object.fromEntries(
    started.map(({ id, child }, i) => {
      const outcome = outcomes[i] as PromiseFulfilledResult<string>;
      return [id, { address: outcome.value, pid: child.pid! }];
    }),
  ) as Record<ServiceId, { address: string; pid: number }>;
  return { services, stop };
}

function launch(name: ServiceName, { delayMs = 0, host = '127.0.0.1', ports = {}, cwd, onLog }: LaunchOptions) {
  const { id } = SERVICES[name];
  const delay = typeof delayMs === 'number' ? delayMs : (delayMs[id] ?? 0);
  const args = [
    MAIN,
    name,
    '--host',
    host,
    '--port',
    `${ports[id] ?? 0}`,
    '--delay-ms',
    `${delay}`,
    '--stop-with-stdin',
  ];
  const child = spawn(process.execPath, args, { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  // The pipe is only there to break when this process dies; a service that is gone already is no error.
  child.stdin.on('error', () => {});

  const lastLines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    lastLines.push(line);
    if (lastLines.length > 20) lastLines.shift();
    onLog?.(id, line);
  });
  let timer: NodeJS.Timeout | undefined;
  const address = new Promise<string>((resolve, reject) => {
    const fail = (what: string) => reject(new ServiceStartError([`${id} ${what}`, ...lastLines].join('\n')));
    timer = setTimeout(() => fail(`did not listen within ${START_TIMEOUT_MS / 1000} s`), START_TIMEOUT_MS);
    child.once('error', (error) => fail(`cannot be started: ${error.message}`));
    child.once('close', (code, signal) => fail(`ended before it listened (${signal ?? `exit code ${code}`})`));
    createInterface({ input: child.stdout }).once('line', (line) => {
      try {
        resolve(String(JSON.parse(line).address));
      } catch {
        fail(`said "${line}" instead of its address`);
      }
    });
  }).finally(() => clearTimeout(timer));
  return { id, child, address };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}
