import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Environment } from '../config.ts';
import { identify, type ProcessIdentity } from './process-identity.ts';

const CHILD = fileURLToPath(new URL('./child/main.ts', import.meta.url));
const READY_TIMEOUT_MS = 60_000;
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 10_000;
/** A child that ran for so long had no trouble with its start: the delays begin anew. */
const STEADY_MS = 30_000;
/** How long after the end of a process its pipes may stay open. */
const PIPES_MS = 300;
const KEPT_LINES = 20;

/** What the process says on stdout when it serves. */
export interface ReadyLine {
  readonly url?: string;
  readonly [field: string]: unknown;
}

export interface ChildOptions {
  readonly name: string;
  readonly kind: 'master' | 'worker';
  readonly cwd: string;
  /** What it inherits. Seen by whoever may look into /proc: no secrets. */
  readonly env: Environment;
  /** Its settings, over `env`, sent when it is told to go on: at each start anew, for they depend on others (a port). */
  readonly settings: () => Environment;
  /** False: a child that dies stays dead. Default true. */
  readonly restart?: boolean;
  /** A line that it wrote to stderr. */
  readonly onLine?: (line: string) => void;
  /** It serves: the first time and after each restart. */
  readonly onReady?: (ready: ReadyLine, identity: ProcessIdentity) => void;
  /** It died without being asked to. `delayMs`: until it is started again; undefined: it is not. */
  readonly onDeath?: (how: string, delayMs: number | undefined) => void;
}

/** The process ended before it served; the message holds the end of its log. */
export class ChildStartError extends Error {
  override readonly name = 'ChildStartError';
  readonly child: string;

  constructor(child: string, how: string, lines: readonly string[]) {
    super([`${child} ${how}`, ...lines].join('\n'));
    this.child = child;
  }
}

interface Running {
  readonly process: ChildProcess;
  /** Resolves when the process is gone. */
  readonly gone: Promise<void>;
}

type State =
  | ({ readonly name: 'running' } & Running)
  /** Asked to end: its death is no fault. */
  | ({ readonly name: 'leaving' } & Running)
  /** Dead, and due to start again. */
  | { readonly name: 'waiting'; readonly timer: NodeJS.Timeout }
  | { readonly name: 'ended' };

/** A process that is kept alive until it is stopped. */
export class ManagedChild {
  readonly name: string;
  readonly #options: ChildOptions;
  readonly #lines: string[] = [];
  #state: State = { name: 'ended' };
  #served = Promise.withResolvers<ReadyLine>();
  #deaths = 0;
  #ready: { readonly line: ReadyLine; readonly identity: ProcessIdentity } | undefined;

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** The process that runs now and has said that it serves. */
  get ready(): { readonly line: ReadyLine; readonly identity: ProcessIdentity } | undefined {
    return this.#ready;
  }

  /** The process that runs now, serving or not. */
  get identity(): ProcessIdentity | undefined {
    const pid = 'process' in this.#state ? this.#state.process.pid : undefined;
    return pid === undefined ? undefined : identify(pid);
  }

  /** Spawns it ahead of `start`: it loads its code, and waits. */
  prepare(): void {
    if (this.#state.name === 'ended') this.#spawn(true);
  }

  /** Resolves when it serves. Throws `ChildStartError` when the first start fails; that one is not repeated. */
  start(): Promise<ReadyLine> {
    this.prepare();
    return this.#go();
  }

  /** Ends it gracefully and starts it again: for code that has changed. Nothing happens while it is not running. */
  async restart(graceMs: number): Promise<void> {
    if (this.#state.name !== 'running') return;
    await this.stop(graceMs);
    await this.#startAgain();
  }

  /** SIGTERM, and SIGKILL after the grace; resolves when it is gone, for good. */
  async stop(graceMs: number): Promise<void> {
    const running = this.#leave();
    if (running === undefined) return;
    running.process.kill('SIGTERM');
    const timer = setTimeout(() => running.process.kill('SIGKILL'), graceMs);
    await running.gone;
    clearTimeout(timer);
  }

  /** SIGKILL now; resolves when it is gone. */
  async kill(): Promise<void> {
    const running = this.#leave();
    running?.process.kill('SIGKILL');
    await running?.gone;
  }

  /** From here on nothing starts it again. @returns what has to go */
  #leave(): Running | undefined {
    const state = this.#state;
    if (state.name === 'running') this.#state = { ...state, name: 'leaving' };
    if (state.name === 'waiting') {
      clearTimeout(state.timer);
      this.#state = { name: 'ended' };
    }
    return 'process' in state ? state : undefined;
  }

  /** A start that fails is told by onDeath, like any other death. */
  async #startAgain(): Promise<void> {
    this.#spawn(false);
    await this.#go().catch(() => {});
  }

  #go(): Promise<ReadyLine> {
    if (this.#state.name === 'running') {
      this.#state.process.stdin?.write(`${JSON.stringify(this.#options.settings())}\n`);
    }
    return this.#served.promise;
  }

  #spawn(isFirst: boolean): void {
    const { kind, cwd, env, onLine } = this.#options;
    // In a session of its own: Ctrl-C in the terminal is for the supervisor alone, which stops its children in order.
    const child = spawn(process.execPath, [CHILD, kind], {
      cwd,
      env: { ...env },
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin.on('error', () => {});
    this.#lines.length = 0;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#lines.push(line);
      if (this.#lines.length > KEPT_LINES) this.#lines.shift();
      onLine?.(line);
    });

    const gone = Promise.withResolvers<void>();
    const ready = Promise.withResolvers<ReadyLine>();
    ready.promise.catch(() => {}); // nobody may have asked yet
    this.#served = ready;
    const since = performance.now();
    this.#state = { name: 'running', process: child, gone: gone.promise };
    const fail = (how: string): void => ready.reject(new ChildStartError(this.name, how, this.#lines));
    const timer = setTimeout(() => {
      fail(`did not serve within ${READY_TIMEOUT_MS / 1_000} s`);
      child.kill('SIGKILL');
    }, READY_TIMEOUT_MS);
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = parseReadyLine(text);
      if (line === undefined || this.#ready !== undefined) return;
      clearTimeout(timer);
      this.#ready = { line, identity: identify(child.pid!) };
      this.#options.onReady?.(line, this.#ready.identity);
      ready.resolve(line);
    });
    let isOver = false;
    const onEnd = (how: string): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      const hasServed = this.#ready !== undefined;
      const isLeaving = this.#state.name === 'leaving';
      this.#ready = undefined;
      this.#state = { name: 'ended' };
      gone.resolve();
      if (!hasServed) fail(isLeaving ? 'was stopped before it served' : how);
      if (!isLeaving && (hasServed || !isFirst)) this.#died(how, since);
    };
    child.once('error', (error) => onEnd(`cannot be started: ${error.message}`));
    const endOf = (code: number | null, signal: string | null): string => {
      return signal === null ? `ended with code ${code}` : `was killed by ${signal}`;
    };
    // At 'close' all that it wrote has been read; a process that it left behind may keep its pipes open.
    child.once('close', (code, signal) => onEnd(endOf(code, signal)));
    child.once('exit', (code, signal) => void setTimeout(() => onEnd(endOf(code, signal)), PIPES_MS).unref());
  }

  #died(how: string, since: number): void {
    const { restart = true, onDeath } = this.#options;
    if (!restart) {
      onDeath?.(how, undefined);
      return;
    }
    this.#deaths = performance.now() - since > STEADY_MS ? 1 : this.#deaths + 1;
    const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (this.#deaths - 1));
    onDeath?.(how, delayMs);
    const timer = setTimeout(() => void this.#startAgain(), delayMs);
    this.#state = { name: 'waiting', timer };
  }
}

function parseReadyLine(text: string): ReadyLine | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as ReadyLine) : undefined;
  } catch {
    return undefined;
  }
}
