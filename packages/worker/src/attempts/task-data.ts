import { createHash, randomUUID } from 'node:crypto';
import { type LoadCheckpointResponse, PayloadEncoding } from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { ConnectError } from '@connectrpc/connect';
import { fullJitter } from '../calls/backoff.ts';
import { type BlobData, BlobTransfer, type TransferOptions } from '../calls/blob-transfer.ts';
import type { MasterConnection } from '../calls/connection.ts';
import { JournalChannel } from '../calls/journal-channel.ts';
import { describe, isVerdict, reasonOf } from '../calls/refusal.ts';
import { CheckpointError } from '../errors.ts';
import type { ArtifactCache } from './artifact-cache.ts';
import type { Attempt, DataSink } from './attempt.ts';
import { AttemptFiles } from './attempt-artifacts.ts';
import type { BlobEncoding, BlobValue, SaveOptions } from './attempt-data.ts';
import { TaskStopped } from './stop.ts';

/** Larger checkpoints are uploaded, and named. */
const inlineBytes = 256 * 1024;
const callTimeoutMs = 10_000;
const retry = { baseMs: 100, capMs: 2_000 };

export interface TaskDataOptions {
  readonly namespace: string;
  readonly sessionId: string;
  readonly connection: Pick<MasterConnection, 'master' | 'blobs'>;
  /** The master tells with a lease whether there are checkpoints; one of the version before does not know. */
  readonly masterKeeps: boolean;
  readonly log: Logger;
  /** For the files that tasks are handed and produce. */
  readonly cache: ArtifactCache;
  /** The master says that the lease is another's by now. */
  readonly onLost: (attempt: Attempt, reason: string) => void;
}

/**
 * Saves and loads what attempts keep at the master, fenced by their leases. Calls are repeated, with the same save id, while the master
 * cannot be reached and the attempt runs: a save is answered for once, however often it was sent.
 */
export class TaskData implements DataSink {
  readonly #options: TaskDataOptions;
  readonly #blobs: BlobTransfer;
  readonly journals: JournalChannel;
  /** The last save of each attempt that has one on its way. */
  readonly #saving = new WeakMap<Attempt, Promise<unknown>>();

  constructor(options: TaskDataOptions) {
    this.#options = options;
    this.#blobs = new BlobTransfer(options.connection.blobs, options.namespace);
    this.journals = new JournalChannel(options);
  }

  save(attempt: Attempt, value: unknown, options: SaveOptions): Promise<number> {
    // Now, and not when its turn comes: the task may go on changing what it saved.
    let content: Content;
    try {
      check(attempt);
      content = encode(value);
    } catch (error) {
      return quiet(Promise.reject(error));
    }
    const before = this.#saving.get(attempt);
    const saved =
      before === undefined
        ? this.#save(attempt, content, options)
        : before.then(() => this.#save(attempt, content, options));
    this.#saving.set(
      attempt,
      saved.catch(() => {}),
    );
    return quiet(saved);
  }

  async load(attempt: Attempt, number: number): Promise<unknown> {
    check(attempt);
    await this.#saving.get(attempt);
    if (number === 0 && attempt.latestCheckpoint === 0 && this.#options.masterKeeps) {
      return undefined;
    }
    const { namespace, sessionId, connection } = this.#options;
    const { taskId, epoch } = attempt;
    const request = { namespace, sessionId, taskId, epoch, number: BigInt(number) };
    let answer: LoadCheckpointResponse;
    try {
      answer = await this.#repeat(attempt, 'load', () =>
        connection.master.loadCheckpoint(request, { timeoutMs: callTimeoutMs }),
      );
    } catch (error) {
      if (error instanceof CheckpointError && error.reason === 'CHECKPOINT_NOT_FOUND') {
        return undefined;
      }
      throw error;
    }
    const { checkpoint, data } = answer;
    if (checkpoint === undefined) {
      return undefined;
    }
    const bytes = checkpoint.inBlob
      ? await this.#blobs.download(checkpoint.sha256, Number(checkpoint.sizeBytes), this.#transfer(attempt))
      : data;
    if (!checkpoint.inBlob && hashOf(bytes) !== checkpoint.sha256) {
      throw new CheckpointError(`checkpoint ${checkpoint.number} did not come as it was saved`);
    }
    return checkpoint.encoding === PayloadEncoding.JSON ? JSON.parse(new TextDecoder().decode(bytes)) : bytes;
  }

  async blob(attempt: Attempt, data: BlobData, encoding: BlobEncoding): Promise<BlobValue<never>> {
    check(attempt);
    return { __baton: 'blob', ...(await this.#blobs.upload(data, this.#transfer(attempt))), encoding };
  }

  files(attempt: Attempt): AttemptFiles {
    return new AttemptFiles(attempt, { cache: this.#options.cache, blobs: this.#blobs });
  }

  async input(attempt: Attempt): Promise<Uint8Array> {
    const { sha256, sizeBytes } = attempt.lease.inputBlob!;
    const stopped = () => {
      // Also before it begins: inputs are fetched ahead.
      if (attempt.phase !== 'queued') {
        check(attempt);
      }
      if (attempt.stop !== undefined) {
        throw attempt.stop;
      }
    };
    const bytes = await this.#blobs.download(sha256, Number(sizeBytes), {
      check: stopped,
      moved: () => attempt.sign(),
    });
    stopped();
    return bytes;
  }

  async #save(attempt: Attempt, { bytes, encoding }: Content, { score, metadata }: SaveOptions): Promise<number> {
    const { namespace, sessionId, connection } = this.#options;
    const { taskId, epoch } = attempt;
    check(attempt);
    attempt.sign();
    const lease = { namespace, sessionId, taskId, epoch, saveId: randomUUID(), encoding, score };
    const request = { ...lease, metadata: { ...metadata } };
    let sha256: string;
    let content: { case: 'data'; value: Uint8Array } | { case: 'blob'; value: { sha256: string; sizeBytes: bigint } };
    if (bytes.length > inlineBytes) {
      const uploaded = await this.#blobs.upload(bytes, this.#transfer(attempt));
      sha256 = uploaded.sha256;
      content = { case: 'blob', value: { sha256, sizeBytes: BigInt(uploaded.sizeBytes) } };
    } else {
      sha256 = hashOf(bytes);
      content = { case: 'data', value: bytes };
    }
    const { number } = await this.#repeat(attempt, 'save', () =>
      connection.master.saveCheckpoint({ ...request, sha256, content }, { timeoutMs: callTimeoutMs }),
    );
    attempt.latestCheckpoint = Math.max(attempt.latestCheckpoint, Number(number));
    attempt.sign();
    this.#options.log.debug('checkpoint saved', { ...attempt.fields, checkpoint: Number(number), bytes: bytes.length });
    return Number(number);
  }

  async #repeat<T>(attempt: Attempt, what: string, call: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures++) {
      check(attempt);
      try {
        return await call();
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        const reason = reasonOf(error) ?? '';
        if (reason === 'LEASE_LOST') {
          this.#options.onLost(attempt, error.rawMessage);
          throw attempt.stop ?? new TaskStopped('lost', error.rawMessage);
        }
        if (isVerdict(error)) {
          throw new CheckpointError(`the checkpoint was refused: ${error.rawMessage}`, reason, { cause: error });
        }
        const retryInMs = fullJitter(failures, retry);
        const fields = { ...attempt.fields, what, failures, retry_in_ms: retryInMs, reason: describe(error) };
        this.#options.log.warn('checkpoint call failed', fields);
        await new Promise((resolve) => setTimeout(resolve, retryInMs));
      }
    }
  }

  #transfer(attempt: Attempt): TransferOptions {
    return { check: () => check(attempt), moved: () => attempt.sign() };
  }
}

interface Content {
  readonly bytes: Uint8Array;
  readonly encoding: PayloadEncoding;
}

/** An attempt that was asked to stop may still save, while its grace lasts: that is what the grace is for. */
function check(attempt: Attempt): void {
  if (attempt.stop?.kind === 'lost') {
    throw attempt.stop;
  }
  if (attempt.phase !== 'running') {
    throw new CheckpointError('the attempt is over');
  }
}

function encode(value: unknown): Content {
  if (value instanceof Uint8Array) {
    return { bytes: value.slice(), encoding: PayloadEncoding.BYTES };
  }
  const text = JSON.stringify(value);
  if (text === undefined) {
    throw new CheckpointError(
      `a checkpoint cannot be ${typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`}`,
    );
  }
  return { bytes: new TextEncoder().encode(text), encoding: PayloadEncoding.JSON };
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A rejection that nobody waits for ends nothing. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
