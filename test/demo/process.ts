import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { inspectPostgres, stopPostgres } from '@baton/postgres';
import { onTestFinished } from 'vitest';

export const ROOT = resolve(import.meta.dirname, '..', '..');
const BIN = join(ROOT, 'node_modules', '.bin');
/** In the environment of every process of a home, and of no other. */
const TAG = 'BATON_TEST_HOME';
const POLL_MS = 50;

/** A directory of its own, what runs in it, and what is left of that. */
export class Home {
  readonly directory = mkdtempSync(join(tmpdir(), 'baton-demo-'));
  readonly home = join(this.directory, 'home');
  readonly outputs = join(this.directory, 'outputs');
  readonly #env: NodeJS.ProcessEnv;

  constructor(env: NodeJS.ProcessEnv = {}) {
    // The embedded Postgres runs as somebody else where the tests run as root.
    chmodSync(this.directory, 0o755);
    const { DATABASE_URL: _, ...inherited } = process.env;
    this.#env = {
      ...inherited,
      PATH: `${BIN}${delimiter}${process.env.PATH}`,
      BATON_HOME: this.home,
      LOG_DIR: join(this.directory, 'logs'),
      BATON_PORT: '0',
      TURBO_TELEMETRY_DISABLED: '1',
      NO_COLOR: '1',
      [TAG]: this.directory,
      ...env,
    };
    onTestFinished(() => this.#remove());
  }

  /** Starts a program, by its path or its name, in a session of its own. */
  run(command: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}, cwd = ROOT): Running {
    return new Running(spawn(command, args, { cwd, env: { ...this.#env, ...env }, detached: true }));
  }

  baton(...args: string[]): Running {
    return this.run('node', [join(ROOT, 'apps/cli/src/bin.ts'), ...args]);
  }

  /** A line for a shell, as a person pastes it. */
  shell(line: string): Running {
    return this.run('/bin/sh', ['-c', line]);
  }

  /** Ids of the processes that were started here and live, however deep. Postgres has no environment of ours. */
  async processes(): Promise<number[]> {
    const found = readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry) && environmentOf(entry).includes(`${TAG}=${this.directory}\0`))
      .map(Number);
    for (const home of [this.home, join(this.home, 'demo'), join(this.home, 'demo-crash')]) {
      const postgres = await inspectPostgres(join(home, 'postgres', 'data'));
      if (postgres.state === 'running') found.push(postgres.pid);
    }
    return found;
  }

  /** Resolves when nothing that was started here lives; rejects with what does. */
  async untilNothingRuns(timeoutMs = 10_000): Promise<void> {
    await until(
      async () => (await this.processes()).length === 0,
      timeoutMs,
      async () => {
        return (await this.processes()).map((pid) => `${pid} ${commandOf(pid)}`).join('\n');
      },
    );
  }

  async #remove(): Promise<void> {
    for (const home of [this.home, join(this.home, 'demo'), join(this.home, 'demo-crash')]) {
      await stopPostgres(join(home, 'postgres', 'data'), { mode: 'immediate' });
    }
    for (const pid of await this.processes()) process.kill(pid, 'SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A process, and all that it has said. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<number>;
  stdout = '';
  stderr = '';
  #changed = Promise.withResolvers<void>();

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout!.on('data', (chunk) => this.#take('stdout', chunk));
    child.stderr!.on('data', (chunk) => this.#take('stderr', chunk));
    this.ended = once(child, 'close').then(([code]) => {
      this.#changed.resolve();
      return code ?? -1;
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** All of it, in the order of the streams. */
  get text(): string {
    return stripVTControlCharacters(`${this.stdout}${this.stderr}`);
  }

  /** Resolves with the match as soon as it has been said; rejects when the process ends without it. */
  async says(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const match = pattern.exec(this.text);
      if (match !== null) return match;
      if (this.child.exitCode !== null || this.child.signalCode !== null || performance.now() > deadline) {
        await sleep(POLL_MS);
        const last = pattern.exec(this.text);
        if (last !== null) return last;
        throw new Error(`${pattern} was not said:\n${this.text}`);
      }
      await Promise.race([this.#changed.promise, this.ended, sleep(1_000)]);
    }
  }

  /** Waits for the end. Rejects with what it said where the exit code is another one. */
  async ends(exitCode = 0): Promise<this> {
    const code = await this.ended;
    if (code !== exitCode) throw new Error(`ended with ${code} and not ${exitCode}:\n${this.text}`);
    return this;
  }

  /** Ctrl-C in a terminal: the whole group gets it. */
  interrupt(): void {
    process.kill(-this.pid, 'SIGINT');
  }

  #take(stream: 'stdout' | 'stderr', chunk: Buffer): void {
    this[stream] += chunk;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Polls, for what gives no signal: processes of others. */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  timeoutMs: number,
  evidence: () => string | Promise<string>,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not so after ${timeoutMs} ms:\n${await evidence()}`);
    await sleep(POLL_MS);
  }
}

function environmentOf(pid: string): string {
  return read(`/proc/${pid}/environ`);
}

function commandOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
}

function read(path: string): string {
  try {
    return `${readFileSync(path, 'utf8')}\0`;
  } catch {
    return '';
  }
}
