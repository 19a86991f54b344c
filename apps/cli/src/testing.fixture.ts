import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBaton } from '@baton/client';
import { FakeBaton } from '@baton/client/testing';
import { onTestFinished } from 'vitest';
import { runCli } from './app.ts';
import type { Environment } from './config.ts';
import type { OutputStream } from './terminal/screen.ts';

/** What is written, kept; with columns it is a terminal. */
class KeptStream implements OutputStream {
  text = '';
  readonly isTTY: boolean;
  readonly columns: number | undefined;
  readonly rows = 12;
  #hasEnded = false;
  #written = Promise.withResolvers<void>();

  constructor(columns: number | undefined) {
    this.isTTY = columns !== undefined;
    this.columns = columns;
  }

  write(data: string | Uint8Array, done?: () => void): boolean {
    this.text += typeof data === 'string' ? data : new TextDecoder().decode(data);
    if (done) queueMicrotask(done);
    this.#written.resolve();
    this.#written = Promise.withResolvers<void>();
    return true;
  }

  getColorDepth(): number {
    return this.isTTY ? 8 : 1;
  }

  /** Says that nothing more will be written. */
  end(): void {
    this.#hasEnded = true;
    this.#written.resolve();
  }

  /** Resolves as soon as the text has this in it; rejects when it ends without it. */
  async shows(part: string): Promise<void> {
    while (!this.text.includes(part)) {
      if (this.#hasEnded) throw new Error(`the command ended without showing "${part}": ${this.text}`);
      await this.#written.promise;
    }
  }
}

export interface CommandOutcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningCommand extends Promise<CommandOutcome> {
  readonly stdout: KeptStream;
}

export interface CommandLine {
  readonly fake: FakeBaton;
  readonly directory: string;
  /** Runs `baton` in this process. With `columns`, stdout and stderr are a terminal. */
  baton(args: readonly string[], options?: { env?: Environment; columns?: number }): RunningCommand;
  /** The lines of the command's own log. */
  log(): Promise<Record<string, unknown>[]>;
}

/** A command line in a directory of its own, its client connected to services in memory. */
export async function commandLine(fake: FakeBaton = new FakeBaton()): Promise<CommandLine> {
  const directory = await mkdtemp(join(tmpdir(), 'baton-cli-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const places = { BATON_HOME: join(directory, 'home'), LOG_DIR: join(directory, 'logs') };
  return {
    fake,
    directory,
    baton(args, { env = {}, columns } = {}) {
      const stdout = new KeptStream(columns);
      const stderr = new KeptStream(columns);
      const outcome = runCli(args, {
        env: { ...places, ...env },
        stdout,
        stderr,
        now: () => 2_000,
        createClient: async ({ namespace }) => {
          const retry = { attempts: 1, baseDelayMs: 1, maxDelayMs: 2 };
          return createBaton({ transport: fake.transport, namespace, retry });
        },
      }).then((exitCode) => {
        stdout.end();
        return { exitCode, stdout: stdout.text, stderr: stderr.text };
      });
      return Object.assign(outcome, { stdout });
    },
    async log() {
      const text = await readFile(join(places.LOG_DIR, 'cli.jsonl'), 'utf8').catch(() => '');
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    },
  };
}
