import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { nowMs } from './recorder.ts';

export interface ProgramOptions {
  readonly name: string;
  /** Path of a main module that prints one line of JSON when it serves. */
  readonly main: string;
  readonly cwd: string;
  /** All of its environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What it writes is appended here, all of its lives. */
  readonly logFile: string;
}

export interface Life {
  readonly pid: number;
  readonly fromMs: number;
  /** Null: it runs. */
  toMs: number | null;
}

/** A process that is started again whenever it ends, as a service manager does, unless it is wanted down. */
export interface Program {
  readonly name: string;
  readonly running: boolean;
  /** Where it serves; undefined while it does not, or not yet. */
  readonly url: string | undefined;
  readonly pid: number | undefined;
  /** Each life by its process, with its times by the clock of the machine. */
  readonly lives: readonly Life[];
  /** Lives that ended although nobody here had sent a signal. */
  readonly ownEnds: number;
  up(): void;
  /** Resolves when the present life serves, or a later one. */
  whenServing(): Promise<void>;
  /** Ends it with this signal and leaves it down. Resolves when it is gone. */
  down(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** For SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void;
}

const RESTART_AFTER_MS = 300;

const alive = new Set<ChildProcess>();
// Whatever ends this process, what it started does not outlive it (short of its own SIGKILL).
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

export function createProgram(options: ProgramOptions): Program {
  let child: ChildProcess | undefined;
  let wanted = false;
  let asked = false;
  let url: string | undefined;
  const lives: Life[] = [];
  let ownEnds = 0;
  const waiting: (() => void)[] = [];

  const note = (text: string) => appendFileSync(options.logFile, `${new Date().toISOString()} -- ${text}\n`);

  function start(): void {
    asked = false;
    const log = openSync(options.logFile, 'a');
    const env = Object.fromEntries(Object.entries(options.env).filter(([, value]) => value !== undefined));
    const born = spawn(process.execPath, [options.main], { cwd: options.cwd, env, stdio: ['ignore', 'pipe', log] });
    closeSync(log);
    child = born;
    alive.add(born);
    const life: Life = { pid: born.pid ?? 0, fromMs: nowMs(), toMs: null };
    lives.push(life);
    note(`started, pid ${born.pid}`);
    createInterface({ input: born.stdout! }).once('line', (line) => {
      if (child !== born) return;
      url = String((JSON.parse(line) as { url: string }).url);
      for (const resolve of waiting.splice(0)) resolve();
    });
    born.once('exit', (code, signal) => {
      alive.delete(born);
      life.toMs = nowMs();
      note(`pid ${born.pid} ended: ${signal ?? code}`);
      url = undefined;
      if (!asked) ownEnds++;
      if (wanted) setTimeout(() => wanted && !isRunning() && start(), RESTART_AFTER_MS);
    });
  }

  const isRunning = () => child !== undefined && child.exitCode === null && child.signalCode === null;

  return {
    name: options.name,
    get running() {
      return isRunning();
    },
    get url() {
      return url;
    },
    get pid() {
      return isRunning() ? child!.pid : undefined;
    },
    lives,
    get ownEnds() {
      return ownEnds;
    },
    up() {
      wanted = true;
      if (!isRunning()) start();
    },
    whenServing: () => (url !== undefined ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
    async down(signal) {
      wanted = false;
      asked = true;
      if (!isRunning()) return;
      note(`${signal} sent`);
      const gone = once(child!, 'exit');
      child!.kill(signal);
      await gone;
    },
    signal(signal) {
      if (!isRunning()) return;
      note(`${signal} sent`);
      child!.kill(signal);
    },
  };
}
