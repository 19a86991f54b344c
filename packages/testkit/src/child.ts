import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { withSourcePlaces } from './programs.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** How a process ended: its exit code, or the signal that ended it. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RestartOptions {
  /** Listen where it listened before. Default true. */
  readonly samePort?: boolean;
  /** Over the environment that it has; stays for later restarts. `undefined` removes a variable. */
  readonly env?: Environment;
}

/** A process of Baton: one main module that prints one line of JSON when it serves. */
export interface Child {
  /** "master", or the worker's name. */
  readonly name: string;
  /** Of the present life, or of the last one. */
  readonly pid: number;
  /** Where it serves, `http://host:port`. */
  readonly url: string;
  /** The whole line that it printed when it served. */
  readonly ready: Readonly<Record<string, unknown>>;
  readonly running: boolean;
  /** How the present life ends (or the last one ended). */
  readonly exited: Promise<Exit>;
  /**
   * Sends a signal, SIGKILL by default. Resolves with its end, however long that takes, or at once for signals that end
   * nothing (SIGSTOP, SIGCONT: then with undefined).
   */
  kill(signal?: NodeJS.Signals): Promise<Exit | undefined>;
  /** Kills it if it runs, and starts it again. Resolves when it serves. */
  restart(options?: RestartOptions): Promise<void>;
  /** Starts it again without waiting until it serves (a worker whose master is away). */
  relaunch(options?: RestartOptions): void;
  /** Resolves when the present life serves. */
  readonly serving: Promise<void>;
  /** What all of its lives wrote to stderr so far, and to stdout. */
  readonly log: string;
  /** Resolves with the first line of the log, from now on or before, that matches. */
  logged(pattern: RegExp, timeoutMs?: number): Promise<string>;
}

/** The process ended, or said nothing for too long, before it served; the message has the end of its log. */
export class ChildStartError extends Error {
  override readonly name = 'ChildStartError';

  constructor(child: string, how: string, log: string) {
    super(`${child} ${how}\n${withSourcePlaces(log.split('\n').slice(-30).join('\n'))}`);
  }
}

/** Something that a test waited for was never written to the log. */
export class NotLoggedError extends Error {
  override readonly name = 'NotLoggedError';
}

export interface ChildOptions {
  readonly name: string;
  /** Path of the main module. */
  readonly main: string;
  readonly cwd: string;
  /** All of its environment. */
  readonly env: Environment;
  /** The variable that says where it listens. */
  readonly portVariable: string;
  readonly startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 30_000;
const ENDS_NOTHING = new Set<NodeJS.Signals>(['SIGSTOP', 'SIGCONT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH']);

const alive = new Set<ChildProcess>();
// Whatever ends this process, its children do not outlive it (short of its own SIGKILL).
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

interface Life {
  readonly process: ChildProcess;
  readonly exited: Promise<Exit>;
  readonly ready: Promise<Readonly<Record<string, unknown>>>;
}

/** Launches a main module and waits until it serves. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const child = launchChild(options);
  await child.serving;
  return child;
}

/** Launches a main module without waiting. */
export function launchChild(options: ChildOptions): Child {
  let env: Environment = options.env;
  let ready: Readonly<Record<string, unknown>> = {};
  const lines: string[] = [];
  const listeners = new Set<(line: string) => void>();

  const write = (line: string) => {
    lines.push(line);
    for (const listener of [...listeners]) listener(line);
  };

  const begin = (): Life => {
    const child = spawn(process.execPath, [options.main], {
      cwd: options.cwd,
      env: Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined)),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    alive.add(child);
    const exited = once(child, 'exit').then(([code, signal]): Exit => {
      alive.delete(child);
      write(`-- ${options.name} (pid ${child.pid}) ended: ${signal ?? code}`);
      return { code, signal };
    });
    createInterface({ input: child.stderr! }).on('line', write);
    const stdout = createInterface({ input: child.stdout! }).on('line', write);
    const said = new Promise<Readonly<Record<string, unknown>>>((resolve, reject) => {
      const fail = (how: string) => reject(new ChildStartError(options.name, how, lines.join('\n')));
      const timeoutMs = options.startTimeoutMs ?? START_TIMEOUT_MS;
      const timer = setTimeout(() => fail(`did not serve within ${timeoutMs} ms`), timeoutMs);
      stdout.once('line', (line) => {
        clearTimeout(timer);
        ready = JSON.parse(line);
        resolve(ready);
      });
      // `close` and not `exit`: the last words are read by then.
      child.once('close', (code, signal) => {
        clearTimeout(timer);
        fail(`ended (${signal ?? code}) before it served`);
      });
    });
    said.catch(() => {}); // whoever waits for it learns of it
    return { process: child, exited, ready: said };
  };

  let life = begin();
  const isRunning = () => life.process.exitCode === null && life.process.signalCode === null;
  const relaunch = ({ samePort = true, env: changes }: RestartOptions = {}) => {
    const port = samePort && typeof ready.url === 'string' ? new URL(ready.url).port : '0';
    env = { ...env, [options.portVariable]: port, ...changes };
    life = begin();
  };

  const child: Child = {
    name: options.name,
    get pid() {
      return life.process.pid ?? 0;
    },
    get url() {
      return String(ready.url);
    },
    get ready() {
      return ready;
    },
    get running() {
      return isRunning();
    },
    get exited() {
      return life.exited;
    },
    get serving() {
      return life.ready.then(() => {});
    },
    get log() {
      return lines.join('\n');
    },
    async kill(signal = 'SIGKILL') {
      const { process: target, exited } = life;
      target.kill(signal);
      return ENDS_NOTHING.has(signal) ? undefined : exited;
    },
    relaunch,
    async restart(how) {
      if (isRunning()) await child.kill('SIGKILL');
      relaunch(how);
      await life.ready;
    },
    logged(pattern, timeoutMs = 20_000) {
      const before = lines.find((line) => pattern.test(line));
      if (before !== undefined) return Promise.resolve(before);
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          listeners.delete(listener);
          reject(new NotLoggedError(`${options.name} did not log ${pattern} within ${timeoutMs} ms`));
        }, timeoutMs);
        const listener = (line: string) => {
          if (!pattern.test(line)) return;
          clearTimeout(timer);
          listeners.delete(listener);
          resolve(line);
        };
        listeners.add(listener);
      });
    },
  };
  return child;
}
