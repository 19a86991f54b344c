import { FailureType, type Lease, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, FailureReport, Outcome } from '@baton/runtime';
import { typeOfException } from './exit-failure.ts';
import { artifactsOfStart } from './task-artifacts.ts';
import type { TaskChannel } from './task-channel.ts';
import type { TaskFiles } from './task-files.ts';
import { type FromTask, type Id, TASK_PROTOCOL, type ToTask } from './task-messages.ts';

/** What rides in a message; larger values are in a file. */
export const inlineBytes = 64 * 1024;
/** The most of a checkpoint or a result. */
export const maxFileBytes = 100 * 1024 * 1024;
/** Above it, a result is uploaded and named. */
const blobFromBytes = 1024 * 1024;
/** Calls that wait for the master; the task's messages wait meanwhile. */
const maxPending = 8;

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

/** Types that a task may give to its failure. */
const ownTypes: ReadonlyMap<string, FailureType> = new Map([
  ['EVALUATION_ERROR', FailureType.EVALUATION_ERROR],
  ['NETWORK_ERROR', FailureType.NETWORK_ERROR],
  ['GPU_ERROR', FailureType.GPU_ERROR],
  ['OUT_OF_MEMORY', FailureType.OUT_OF_MEMORY],
  ['UNKNOWN', FailureType.UNKNOWN],
]);

/** One attempt as its program speaks of it: progress, checkpoints and its end, whatever carries the messages. */
export class ProtocolSession {
  readonly #lease: Lease;
  readonly #context: AttemptContext;
  readonly #files: TaskFiles;
  readonly #channel: TaskChannel;
  #hello: Extract<FromTask, { type: 'hello' }> | undefined;
  #pending = 0;
  readonly #calls = new Set<Promise<void>>();
  #loads = 0;
  #onSaved: (() => void)[] = [];
  readonly #answered = Promise.withResolvers<void>();
  /** What it said of its end. */
  result: Extract<FromTask, { type: 'result' }> | undefined;
  failure: FailureReport | undefined;

  constructor(lease: Lease, context: AttemptContext, files: TaskFiles, channel: TaskChannel) {
    this.#lease = lease;
    this.#context = context;
    this.#files = files;
    this.#channel = channel;
    context.onCheckpointNow?.(() => this.#askForCheckpoint());
  }

  /** Resolves when the task has said how it ends. */
  get answered(): Promise<void> {
    return this.#answered.promise;
  }

  get isReusable(): boolean {
    return this.#hello?.reusable === true;
  }

  /** It ends by itself when it is told to. */
  get stops(): boolean {
    return this.#hello?.stops === true;
  }

  /** @param hello what the program said of itself to an earlier task */
  start(devices: readonly string[], hello?: ProtocolSession): void {
    this.#hello = hello === undefined ? undefined : hello.#hello;
    const { input, encoding } = this.#lease;
    const { taskId, attempt, maxAttempts, epoch, runId, nodeId, startToCloseMs } = this.#context;
    const isJson = encoding !== PayloadEncoding.BYTES;
    this.#send({
      type: 'start',
      protocol: TASK_PROTOCOL,
      task_id: taskId,
      attempt,
      max_attempts: maxAttempts,
      epoch,
      kind: this.#lease.kind,
      ...(runId !== undefined && { run_id: runId }),
      ...(nodeId !== undefined && { node_id: nodeId }),
      ...(isJson && input.length <= inlineBytes && { input: jsonOf(input) }),
      input_file: this.#files.seen('input'),
      encoding: isJson ? 'json' : 'bytes',
      directory: this.#files.seenAs,
      checkpoint: this.#context.checkpoint.latest,
      timeout_ms: startToCloseMs,
      devices,
      ...artifactsOfStart(this.#lease, this.#files),
    });
  }

  stop(reason: Extract<ToTask, { type: 'stop' }>['reason'], message: string, graceMs: number): void {
    this.#send({ type: 'stop', reason, message, grace_ms: graceMs });
  }

  /** Takes a message of the task. */
  take(message: FromTask): void {
    switch (message.type) {
      case 'hello':
        this.#hello = message;
        break;
      case 'progress':
        this.#context.progress(
          typeof message.fraction === 'number' ? message.fraction : undefined,
          typeof message.message === 'string' ? message.message : undefined,
        );
        break;
      case 'log':
        this.#context.log(String(message.text ?? ''), 'log');
        this.#waitForRoom();
        break;
      case 'metric': {
        const { name, value, step } = message;
        this.#context.log(JSON.stringify({ name, value, ...(step !== undefined && { step }) }), 'metric');
        this.#waitForRoom();
        break;
      }
      case 'output':
        this.#call(message.id, () => this.#output(message));
        break;
      case 'save_checkpoint':
        this.#call(message.id, () => this.#save(message));
        break;
      case 'checkpoint_skipped':
        this.#saved();
        break;
      case 'load_checkpoint':
        this.#call(message.id, () => this.#load(message));
        break;
      case 'put_artifact':
        this.#call(message.id, () => this.#put(message));
        break;
      case 'result':
        if (this.failure === undefined) {
          this.result = message;
        }
        this.#answered.resolve();
        break;
      case 'failure':
        this.failure = failureOf(message);
        this.result = undefined;
        this.#answered.resolve();
        break;
      default:
        this.nonsense(
          `no message of type ${JSON.stringify((message as { type: unknown }).type)}`,
          (message as { id?: Id }).id,
        );
    }
  }

  nonsense(why: string, id?: Id): void {
    this.#context.log(`the task's protocol: ${why}`.slice(0, 1_000), 'log');
    this.#send({ type: 'refused', ...withId(id), message: why });
  }

  /** Resolves when what it asked for is done or refused. */
  async settled(): Promise<void> {
    await Promise.all(this.#calls);
  }

  /** The output of a result, from its value or its file. Throws `TaskFileError`, `SyntaxError`. */
  async output(): Promise<Outcome | undefined> {
    const { result } = this;
    if (result === undefined) {
      return undefined;
    }
    return typeof result.file === 'string'
      ? outputOfFile(this.#context, this.#files, result.file, result.encoding === 'bytes')
      : outcomeOf(this.#context, encoder.encode(JSON.stringify(result.value ?? null)), PayloadEncoding.JSON);
  }

  #askForCheckpoint(): Promise<void> | undefined {
    if (this.#hello?.saves !== true || this.result !== undefined || this.failure !== undefined) {
      return undefined;
    }
    const saved = new Promise<void>((resolve) => this.#onSaved.push(resolve));
    this.#send({ type: 'checkpoint_now' });
    return Promise.race([saved, this.answered]);
  }

  #saved(): void {
    for (const resolve of this.#onSaved.splice(0)) {
      resolve();
    }
  }

  async #save(message: Extract<FromTask, { type: 'save_checkpoint' }>): Promise<void> {
    const { id, value, file, encoding, score, metadata } = message;
    let content: unknown = value;
    if (typeof file === 'string') {
      const bytes = await this.#files.read(file, maxFileBytes);
      content = encoding === 'json' ? jsonOf(bytes) : bytes;
    } else if (value === undefined) {
      throw new SyntaxError('a checkpoint has a "value" or a "file"');
    }
    const number = await this.#context.checkpoint.save(content, {
      ...(typeof score === 'number' && { score }),
      ...(typeof metadata === 'object' && metadata !== null && { metadata: textsOf(metadata) }),
    });
    this.#send({ type: 'checkpoint_saved', ...withId(id), number });
    this.#saved();
  }

  async #load(message: Extract<FromTask, { type: 'load_checkpoint' }>): Promise<void> {
    const number = typeof message.number === 'number' ? message.number : undefined;
    const value = await this.#context.checkpoint.load(number);
    const answer = { type: 'checkpoint_loaded' as const, ...withId(message.id) };
    if (value === undefined) {
      this.#send({ ...answer, found: false });
      return;
    }
    const isBytes = value instanceof Uint8Array;
    const bytes = isBytes ? value : encoder.encode(JSON.stringify(value));
    const name = `checkpoint-${++this.#loads}`;
    await this.#files.write(name, bytes);
    this.#send({
      ...answer,
      found: true,
      encoding: isBytes ? 'bytes' : 'json',
      file: this.#files.seen(name),
      ...(!isBytes && bytes.length <= inlineBytes && { value }),
    });
  }

  /** What is wrong with the file, or with the name, is found by the put: that fails the task too. */
  async #put({ id, name, file }: Extract<FromTask, { type: 'put_artifact' }>): Promise<void> {
    const artifact = await this.#context.artifacts.put(String(name ?? ''), this.#files.pieces(String(file ?? '')));
    this.#send({ type: 'artifact_put', ...withId(id), artifact });
  }

  async #output({ id, text, base64 }: Extract<FromTask, { type: 'output' }>): Promise<void> {
    await this.#context.output.write(typeof base64 === 'string' ? Buffer.from(base64, 'base64') : String(text ?? ''));
    if (id !== undefined) {
      this.#send({ type: 'output_taken', id });
    }
  }

  /** Reading waits while too many of them are under way: memory stays bounded, and the task is slowed down. */
  #call(id: Id | undefined, call: () => Promise<void>): void {
    if (++this.#pending >= maxPending) {
      this.#channel.pause();
    }
    const done = call()
      .catch((error: unknown) => {
        const message = error instanceof Error ? error.message : String(error);
        if (id === undefined) {
          this.#context.log(`the task's protocol: ${message}`.slice(0, 1_000), 'log');
        }
        this.#send({ type: 'refused', ...withId(id), message });
      })
      .finally(() => {
        this.#calls.delete(done);
        if (--this.#pending < maxPending) {
          this.#channel.resume();
        }
      });
    this.#calls.add(done);
  }

  #waitForRoom(): void {
    const room = this.#context.logRoom?.();
    if (room !== undefined) {
      this.#pending++;
      this.#channel.pause();
      void room.then(() => {
        if (--this.#pending < maxPending) {
          this.#channel.resume();
        }
      });
    }
  }

  #send(message: ToTask): void {
    this.#channel.send(message);
  }
}

/** A file of the task as its output. Throws `TaskFileError`, `SyntaxError`. */
export async function outputOfFile(
  context: AttemptContext,
  files: TaskFiles,
  file: string,
  isBytes: boolean,
): Promise<Outcome> {
  const bytes = await files.read(file, maxFileBytes);
  if (!isBytes) {
    jsonOf(bytes);
  }
  return outcomeOf(context, bytes, isBytes ? PayloadEncoding.BYTES : PayloadEncoding.JSON);
}

/** Large ones are uploaded. */
export async function outcomeOf(
  context: AttemptContext,
  output: Uint8Array,
  encoding: PayloadEncoding,
): Promise<Outcome> {
  if (output.length <= blobFromBytes) {
    return { kind: 'success', output, encoding };
  }
  const name = encoding === PayloadEncoding.JSON ? 'json' : 'bytes';
  const { sha256, sizeBytes } = await context.blob(output, { encoding: name });
  return { kind: 'success', output: new Uint8Array(), encoding, blob: { sha256, sizeBytes } };
}

/** Nothing is null. Throws `SyntaxError`, or `TypeError` for what is no UTF-8. */
export function jsonOf(bytes: Uint8Array): unknown {
  return bytes.length === 0 ? null : JSON.parse(decoder.decode(bytes));
}

function failureOf(message: Extract<FromTask, { type: 'failure' }>): FailureReport {
  const text = typeof message.message === 'string' && message.message !== '' ? message.message : 'the task failed';
  const exceptionType = typeof message.exception_type === 'string' ? message.exception_type : undefined;
  const type = ownTypes.get(message.failure_type ?? '') ?? typeOfException(exceptionType ?? '', text);
  return {
    type,
    message: text,
    ...(exceptionType !== undefined && { exceptionType }),
    ...(typeof message.stack === 'string' && { stack: message.stack }),
    nonRetryable: message.non_retryable === true,
    ...(typeof message.retry_after_ms === 'number' &&
      Number.isFinite(message.retry_after_ms) && { retryAfterMs: message.retry_after_ms }),
    ...(typeof message.device === 'string' && { device: message.device }),
  };
}

function withId(id: Id | undefined): { id?: Id } {
  return id === undefined ? {} : { id };
}

function textsOf(metadata: object): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, String(value)]));
}
