/**
 * Baton's side of a task that is a program of its own, in TypeScript, on Node. See docs/reference/task-protocol.md.
 *
 * ```ts
 * import { runTask } from '@baton/client/process';
 *
 * await runTask(async (input: { epochs: number }, ctx) => {
 *   let { epoch } = (await ctx.checkpoint.load<{ epoch: number }>()) ?? { epoch: 0 };
 *   for (; epoch < input.epochs; epoch++) await ctx.checkpoint.save({ epoch: epoch + 1 });
 *   return { epoch };
 * });
 * ```
 */
import { randomUUID } from 'node:crypto';
import { copyFile, link, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { connect, Socket } from 'node:net';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ArtifactValue } from '@baton/domain';
import type { TaskArtifacts, TaskCheckpoints } from '../tasks/task-data.ts';

const PROTOCOL = 1;
/** Larger values go through files. */
const INLINE_BYTES = 64 * 1024;

/** Why the attempt has to end; the reason of `signal`. */
export class ProcessStopped extends Error {
  override readonly name = 'ProcessStopped';
  readonly kind: 'cancel' | 'timeout' | 'hand-back' | 'lost';

  constructor(kind: ProcessStopped['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** The worker, or the master, did not take what was sent. */
export class TaskRefused extends Error {
  override readonly name = 'TaskRefused';
}

/** What a program is handed besides its input; as a function's `TaskContext`, where it has the same. */
export interface ProcessContext {
  /** Aborted with a `ProcessStopped` when the attempt has to end. After half of the grace SIGTERM follows, then SIGKILL. */
  readonly signal: AbortSignal;
  readonly taskId: string;
  readonly kind: string;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly epoch: number;
  readonly runId?: string;
  readonly nodeId?: string;
  /** For files of one's own; it goes with the attempt. */
  readonly directory: string;
  /** UUIDs of the devices that the task has. */
  readonly devices: readonly string[];
  log(text: string): void;
  progress(fraction?: number, message?: string): void;
  metric(name: string, value: number, step?: number): void;
  readonly output: { write(data: string | Uint8Array): Promise<void> };
  readonly checkpoint: TaskCheckpoints;
  /** What the task is handed is there before it begins. */
  readonly artifacts: TaskArtifacts;
  /** A directory: what lies there when the task succeeds is kept as artifacts, under the names of the files. */
  readonly artifactsOut: string;
  /** Calls back when the worker is about to go: save where the task stands. What is returned is waited for, some seconds. */
  onCheckpointNow(listener: () => unknown): void;
}

export interface RunTaskOptions {
  /** `main` may be called again, for the next task of the same command (see keepWarm). Default false. */
  readonly reusable?: boolean;
}

interface Message {
  readonly type: string;
  readonly [field: string]: unknown;
}

/**
 * Runs `main` for the task that this program was started for, and ends the program with what it returned or threw. Returned bytes travel as
 * bytes, all else as JSON. `NonRetryable`, `RetryAfter` and `AttemptFailure` count as in functions.
 */
export async function runTask<Input = unknown>(
  main: (input: Input, ctx: ProcessContext) => unknown,
  options: RunTaskOptions = {},
): Promise<never> {
  const link = new Link(...openSockets());
  link.send({ type: 'hello', protocol: PROTOCOL, stops: true, saves: true, reusable: options.reusable === true });
  for (;;) {
    const start = await link.nextStart();
    const attempt = new ProcessAttempt(link, start);
    let hasFailed = false;
    try {
      await attempt.result(await main((await attempt.input()) as Input, attempt));
    } catch (error) {
      hasFailed = true;
      attempt.fail(error);
    }
    if (options.reusable !== true) {
      await link.flushed();
      process.exit(hasFailed ? 1 : 0);
    }
  }
}

function openSockets(): [from: Socket, to: Socket] {
  const { BATON_TASK_FD_IN: reads, BATON_TASK_FD_OUT: writes, BATON_TASK_SOCKET: path } = process.env;
  if (reads && writes) {
    return [
      new Socket({ fd: Number(reads), readable: true, writable: false }),
      new Socket({ fd: Number(writes), readable: false, writable: true }),
    ];
  }
  if (path) {
    const socket = connect(path);
    return [socket, socket];
  }
  process.stderr.write('this program is a task of Baton: a worker has to start it (BATON_TASK_FD_IN is not set)\n');
  process.exit(64);
}

class ProcessAttempt implements ProcessContext {
  readonly #link: Link;
  readonly #start: Message;
  readonly #abort = new AbortController();
  readonly #listeners: (() => unknown)[] = [];
  #latest: number;

  constructor(link: Link, start: Message) {
    this.#link = link;
    this.#start = start;
    this.#latest = Number(start.checkpoint ?? 0);
    link.onTold = (message) => this.#told(message);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }
  get taskId(): string {
    return String(this.#start.task_id);
  }
  get kind(): string {
    return String(this.#start.kind);
  }
  get attempt(): number {
    return Number(this.#start.attempt);
  }
  get maxAttempts(): number {
    return Number(this.#start.max_attempts);
  }
  get epoch(): number {
    return Number(this.#start.epoch);
  }
  get runId(): string | undefined {
    return this.#start.run_id as string | undefined;
  }
  get nodeId(): string | undefined {
    return this.#start.node_id as string | undefined;
  }
  get directory(): string {
    return String(this.#start.directory);
  }
  get devices(): readonly string[] {
    return (this.#start.devices as readonly string[] | undefined) ?? [];
  }

  // Properties, as in `TaskContext`: tasks take them off the context.
  get log() {
    return (text: string): void => this.#link.send({ type: 'log', text: String(text) });
  }
  get progress() {
    return (fraction?: number, message?: string): void => this.#link.send({ type: 'progress', fraction, message });
  }
  get metric() {
    return (name: string, value: number, step?: number): void => this.#link.send({ type: 'metric', name, value, step });
  }

  get output() {
    return {
      write: async (data: string | Uint8Array): Promise<void> => {
        const content = typeof data === 'string' ? { text: data } : { base64: Buffer.from(data).toString('base64') };
        await this.#link.call({ type: 'output', ...content });
      },
    };
  }

  get checkpoint(): TaskCheckpoints {
    const attempt = this;
    return {
      get latest() {
        return attempt.#latest;
      },
      save: async (value, { score, metadata } = {}) => {
        const answer = await this.#withValue(value, (content) =>
          this.#link.call({ type: 'save_checkpoint', ...content, score, metadata }),
        );
        attempt.#latest = Math.max(attempt.#latest, Number(answer.number));
        return Number(answer.number);
      },
      load: async <T>(number?: number) => {
        const answer = await this.#link.call({ type: 'load_checkpoint', number });
        if (answer.found !== true) {
          return undefined;
        }
        if ('value' in answer) {
          return answer.value as T;
        }
        const bytes = await readFile(String(answer.file));
        await rm(String(answer.file), { force: true });
        return (answer.encoding === 'json' ? JSON.parse(bytes.toString()) : new Uint8Array(bytes)) as T;
      },
    };
  }

  get artifactsOut(): string {
    return String(this.#start.artifacts_out);
  }

  get artifacts(): TaskArtifacts {
    const handed = (this.#start.artifacts ?? {}) as Record<
      string,
      { sha256: string; size_bytes: number; file: string }
    >;
    return {
      inputs: Object.entries(handed).map(([name, each]) => ({ name, sha256: each.sha256, sizeBytes: each.size_bytes })),
      put: async (name, source) => {
        if (this.#start.artifacts_out === undefined)
          throw new TaskRefused('this worker knows no artifacts of programs');
        const file = await this.#bring(source);
        try {
          const answer = await this.#link.call({ type: 'put_artifact', name, file });
          return answer.artifact as ArtifactValue;
        } finally {
          await rm(join(this.directory, file), { force: true });
        }
      },
      get: async (name) => {
        const file = Object.hasOwn(handed, name) ? handed[name]?.file : undefined;
        if (file === undefined) throw new TaskRefused(`the task has no artifact ${JSON.stringify(name)}`);
        return file;
      },
      directory: async () => String(this.#start.artifacts_in),
    };
  }

  get onCheckpointNow() {
    return (listener: () => unknown): void => {
      this.#listeners.push(listener);
    };
  }

  async input(): Promise<unknown> {
    if ('input' in this.#start) {
      return this.#start.input;
    }
    const bytes = await readFile(String(this.#start.input_file));
    return this.#start.encoding === 'json' ? JSON.parse(bytes.toString()) : new Uint8Array(bytes);
  }

  async result(value: unknown): Promise<void> {
    // Its file is the worker's from now on.
    const content = await this.#contentOf(value ?? null);
    this.#link.send({ type: 'result', ...content });
  }

  fail(thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(`thrown: ${String(thrown)}`);
    const fields = error as Error & { delayMs?: unknown; type?: unknown; device?: unknown; nonRetryable?: unknown };
    this.#link.send({
      type: 'failure',
      message: error.message || error.name,
      exception_type: error.name,
      stack: error.stack,
      non_retryable: error.name === 'NonRetryable' || fields.nonRetryable === true || undefined,
      retry_after_ms: typeof fields.delayMs === 'number' ? fields.delayMs : undefined,
      failure_type: error.name === 'AttemptFailure' ? fields.type : undefined,
      device: fields.device,
    });
  }

  /** A second name of a file in the task's directory, or a copy. */
  async #bring(source: string | URL | Uint8Array): Promise<string> {
    const file = `file-${randomUUID()}`;
    const target = join(this.directory, file);
    if (source instanceof Uint8Array) {
      await writeFile(target, source);
      return file;
    }
    const real = await realpath(source instanceof URL ? fileURLToPath(source) : source);
    await link(real, target).catch(() => copyFile(real, target));
    return file;
  }

  async #contentOf(value: unknown): Promise<Record<string, unknown>> {
    const isBytes = value instanceof Uint8Array;
    const data = isBytes ? value : (JSON.stringify(value) ?? 'null');
    if (!isBytes && data.length <= INLINE_BYTES) {
      return { value };
    }
    const file = `file-${randomUUID()}`;
    await writeFile(join(this.directory, file), data);
    return { file, encoding: isBytes ? 'bytes' : 'json' };
  }

  async #withValue(value: unknown, send: (content: Record<string, unknown>) => Promise<Message>): Promise<Message> {
    const content = await this.#contentOf(value);
    try {
      return await send(content);
    } finally {
      if (typeof content.file === 'string') {
        await rm(join(this.directory, basename(content.file)), { force: true });
      }
    }
  }

  #told(message: Message): void {
    if (message.type === 'stop') {
      const kind = message.reason as ProcessStopped['kind'];
      this.#abort.abort(new ProcessStopped(kind, String(message.message ?? kind)));
    } else if (message.type === 'checkpoint_now') {
      const before = this.#latest;
      const done = this.#listeners.map(async (listener) => listener());
      void Promise.allSettled(done).then(() => {
        if (this.#latest === before) {
          this.#link.send({ type: 'checkpoint_skipped' });
        }
      });
    }
  }
}

/** The lines of JSON that go to the worker and come from it. */
class Link {
  onTold: (message: Message) => void = () => {};
  readonly #to: Socket;
  readonly #waiting = new Map<number, { resolve: (message: Message) => void; reject: (error: Error) => void }>();
  readonly #starts: Message[] = [];
  #wanted: ((start: Message) => void) | undefined;
  #ids = 0;
  #rest = '';

  constructor(from: Socket, to: Socket) {
    this.#to = to;
    from.setEncoding('utf8');
    from.on('data', (text: string) => this.#read(text));
    from.on('error', () => this.#end());
    from.on('end', () => this.#end());
    from.on('close', () => this.#end());
    to.on('error', () => this.#end());
  }

  send(message: Message): void {
    this.#to.write(`${JSON.stringify(message)}\n`);
  }

  call(message: Message): Promise<Message> {
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.send({ ...message, id });
    });
  }

  nextStart(): Promise<Message> {
    const start = this.#starts.shift();
    return start ? Promise.resolve(start) : new Promise((resolve) => (this.#wanted = resolve));
  }

  flushed(): Promise<void> {
    return new Promise((resolve) => this.#to.write('', () => resolve()));
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (line !== '') {
        this.#take(JSON.parse(line) as Message);
      }
    }
  }

  #take(message: Message): void {
    if (message.type === 'start') {
      if (this.#wanted) {
        this.#wanted(message);
        this.#wanted = undefined;
      } else {
        this.#starts.push(message);
      }
      return;
    }
    const waiter = typeof message.id === 'number' ? this.#waiting.get(message.id) : undefined;
    if (waiter === undefined) {
      this.onTold(message);
      return;
    }
    this.#waiting.delete(message.id as number);
    if (message.type === 'refused') {
      waiter.reject(new TaskRefused(String(message.message)));
    } else {
      waiter.resolve(message);
    }
  }

  /** The worker has gone, and with it the lease: somebody else may have the task. Nothing of this program may live on. */
  #end(): void {
    try {
      process.kill(0, 'SIGKILL');
    } catch {
      process.exit(70);
    }
  }
}
