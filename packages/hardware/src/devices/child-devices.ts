import { type ChildProcess, fork } from 'node:child_process';
import { type Devices, type DevicesReading, NoDriverError } from './reading.ts';

/** What the child reads from. */
export type ChildBackend =
  | { readonly kind: 'nvml'; readonly library: string }
  /** `text`, or a `file` that is read again when it changes. Times of faults count from `startedAtMs` of the clock. */
  | { readonly kind: 'simulated'; readonly text: string; readonly file: string | null; readonly startedAtMs: number };

export interface ChildRequest {
  readonly id: number;
}

export type ChildAnswer =
  | { readonly id: number; readonly reading: DevicesReading }
  | { readonly id: number; readonly error: string; readonly noDriver: boolean };

export interface ChildDevicesOptions {
  readonly backend: ChildBackend;
  /** How long a driver may take for one reading before its child is killed. Default 5 000. */
  readonly timeoutMs?: number;
  /** Before a child is started in place of one that was killed or died: doubles up to the cap. Default 1 000, 60 000. */
  readonly restartBaseMs?: number;
  readonly restartCapMs?: number;
  /** Told of what happens to the child. */
  readonly onTrouble?: (what: string, fields: Readonly<Record<string, unknown>>) => void;
}

interface Running {
  readonly process: ChildProcess;
  readonly exited: Promise<void>;
}

const defaults = { timeoutMs: 5_000, restartBaseMs: 1_000, restartCapMs: 60_000 };

/**
 * Devices by a child process, one at a time: a driver that hangs takes the child and nothing else. Until another child has answered
 * the devices are unknown. Where there is no driver at all `noDriver` holds the reason.
 */
export class ChildDevices implements Devices {
  readonly source: 'nvml' | 'simulated';
  readonly #options: ChildDevicesOptions;
  readonly #timeoutMs: number;
  #child: Running | undefined;
  /** Killed, and not gone yet: a process inside of a driver call cannot always be. */
  #dying: Running | undefined;
  #pending: Promise<DevicesReading> | undefined;
  #failures = 0;
  #restartAtMs = Number.NEGATIVE_INFINITY;
  #reason = 'the driver has not been asked yet';
  #lastId = 0;
  #closed = false;
  #noDriver: NoDriverError | undefined;

  constructor(options: ChildDevicesOptions) {
    this.source = options.backend.kind;
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? defaults.timeoutMs;
  }

  /** Why there is nothing to read here, and never will be; undefined: there is, or nobody knows yet. */
  get noDriver(): NoDriverError | undefined {
    return this.#noDriver;
  }

  /** Of the child, while there is one. For tests and for people. */
  get pid(): number | undefined {
    return this.#child?.process.pid;
  }

  read(): Promise<DevicesReading> {
    this.#pending ??= this.#read().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const child = this.#child;
    if (child === undefined) {
      return;
    }
    this.#kill();
    // It may be stuck in the driver; nobody waits long for that.
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      child.exited,
      new Promise((resolve) => {
        timer = setTimeout(resolve, 500);
      }),
    ]);
    clearTimeout(timer);
  }

  async #read(): Promise<DevicesReading> {
    if (this.#closed || this.#noDriver !== undefined) {
      return this.#unknown(this.#noDriver?.message ?? 'closed');
    }
    const child = this.#child ?? this.#start();
    if (child === undefined) {
      return this.#unknown(this.#reason);
    }
    const answer = await this.#ask(child);
    if ('reading' in answer) {
      this.#failures = 0;
      return answer.reading;
    }
    if (answer.noDriver) {
      this.#noDriver = new NoDriverError(answer.error);
      this.#kill();
      return this.#unknown(answer.error);
    }
    this.#failed(answer.error);
    return this.#unknown(answer.error);
  }

  #ask({ process, exited }: Running): Promise<ChildAnswer> {
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      const end = (answer: ChildAnswer) => {
        clearTimeout(timer);
        process.off('message', onMessage);
        resolve(answer);
      };
      const onMessage = (answer: ChildAnswer) => {
        if (answer.id === id) {
          end(answer);
        }
      };
      const failed = (error: string) => end({ id, error, noDriver: false });
      const timer = setTimeout(() => failed(`the driver has not answered for ${this.#timeoutMs} ms`), this.#timeoutMs);
      process.on('message', onMessage);
      void exited.then(() => failed('the process that reads the devices ended'));
      process.send({ id } satisfies ChildRequest, (error) => {
        if (error !== null) {
          failed('the process that reads the devices cannot be reached');
        }
      });
    });
  }

  #failed(reason: string): void {
    const { restartBaseMs = defaults.restartBaseMs, restartCapMs = defaults.restartCapMs } = this.#options;
    const delayMs = Math.min(restartCapMs, restartBaseMs * 2 ** this.#failures);
    this.#failures++;
    this.#reason = reason;
    this.#restartAtMs = performance.now() + delayMs;
    const pid = this.pid;
    this.#kill();
    this.#options.onTrouble?.('devices unknown', { source: this.source, reason, pid, retry_in_ms: delayMs });
  }

  #start(): Running | undefined {
    if (performance.now() < this.#restartAtMs) {
      return undefined;
    }
    if (this.#dying !== undefined) {
      // One stuck process is enough.
      this.#reason = `the driver does not let go of process ${this.#dying.process.pid}`;
      return undefined;
    }
    // The source runs as .ts; a packed package has the same file beside it as .js.
    const file = import.meta.url.endsWith('.ts')
      ? new URL('./device-child.ts', import.meta.url)
      : new URL('./device-child.js', import.meta.url);
    const process = fork(file, [JSON.stringify(this.#options.backend)], {
      execArgv: [],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      // Ctrl-C in a terminal is for the worker, which drains first.
      detached: true,
    });
    // The worker's life does not depend on it.
    process.unref();
    process.channel?.unref();
    const exited = new Promise<void>((resolve) => {
      process.once('exit', () => resolve());
      process.once('error', () => resolve());
    });
    const child = { process, exited };
    this.#child = child;
    void exited.then(() => {
      if (this.#child === child) {
        this.#child = undefined;
      }
      if (this.#dying === child) {
        this.#dying = undefined;
      }
    });
    return child;
  }

  #kill(): void {
    const child = this.#child;
    if (child !== undefined) {
      this.#child = undefined;
      this.#dying = child;
      child.process.kill('SIGKILL');
    }
  }

  #unknown(reason: string): DevicesReading {
    return { state: 'unknown', source: this.source, reason };
  }
}
