import { type Checkpoint, CheckpointService, PayloadEncoding } from '@baton/contract';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callOnce, callRepeatably, requestOptions } from '../calls/call.ts';
import { type List, listOf, type PageOptions } from '../calls/pages.ts';
import { optionalDate } from '../calls/time.ts';
import type { BlobEncoding } from './blob-value.ts';
import { Blobs } from './blobs.ts';

/** Where a task can go on from. */
export interface CheckpointView {
  readonly taskId: string;
  /** 1, 2, … per task, in the order of saving. */
  readonly number: number;
  /** The attempt that saved it, and the epoch of its lease. */
  readonly attempt: number;
  readonly epoch: number;
  readonly time?: Date;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly encoding: BlobEncoding;
  /** The higher the better. */
  readonly score?: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** Its bytes are a blob. */
  readonly inBlob: boolean;
  readonly worker: string;
}

/** A checkpoint with its bytes at hand. */
export interface CheckpointContent extends CheckpointView {
  bytes(): Promise<Uint8Array>;
  /** What the task saved: JSON parsed, or bytes. */
  value<T = unknown>(): Promise<T>;
}

export interface CheckpointDifferenceView {
  /** `sha256`, `size_bytes`, `score`, `encoding`, `metadata.KEY`, or a JSON pointer. */
  readonly what: string;
  readonly a: string;
  readonly b: string;
}

export interface CheckpointComparison {
  readonly a: CheckpointView;
  readonly b: CheckpointView;
  /** Byte for byte. */
  readonly sameContent: boolean;
  /** At most 1 000. */
  readonly differences: readonly CheckpointDifferenceView[];
}

export interface CheckpointStatisticsView {
  readonly count: number;
  readonly tasks: number;
  readonly sizeBytes: number;
  readonly inBlobs: number;
  readonly oldest?: Date;
  readonly newest?: Date;
  /** Of the scored ones. */
  readonly bestScore?: number;
}

/** Checkpoints of tasks, to look at and to tidy up; tasks save and load theirs by `ctx.checkpoint`. Every call rejects with `BatonError`. */
export class Checkpoints {
  readonly #client: Client<typeof CheckpointService>;
  readonly #settings: CallSettings;
  readonly #blobs: Blobs;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(CheckpointService, transport);
    this.#settings = settings;
    this.#blobs = new Blobs(transport, settings);
  }

  /** Newest first. */
  list(taskId: string, options?: PageOptions & CallOptions): List<CheckpointView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const page = await callRepeatably(this.#settings, options, () =>
        this.#client.listCheckpoints(
          { namespace, taskId, pageSize, pageToken },
          requestOptions(this.#settings, options),
        ),
      );
      return { items: page.checkpoints.map(checkpointView), nextPageToken: page.nextPageToken };
    });
  }

  /** The newest, the best, or one by its number. */
  async get(
    taskId: string,
    which: number | 'newest' | 'best' = 'newest',
    options?: CallOptions,
  ): Promise<CheckpointContent> {
    const { namespace } = this.#settings;
    const choice = typeof which === 'number' ? { number: BigInt(which) } : { best: which === 'best' };
    const { checkpoint, data } = await callRepeatably(this.#settings, options, () =>
      this.#client.getCheckpoint({ namespace, taskId, ...choice }, requestOptions(this.#settings, options)),
    );
    const view = checkpointView(checkpoint!);
    const bytes = async () => (view.inBlob ? this.#blobs.get(view, options).bytes() : data);
    return {
      ...view,
      bytes,
      value: async <T>() => {
        const all = await bytes();
        return (view.encoding === 'json' ? JSON.parse(new TextDecoder().decode(all)) : all) as T;
      },
    };
  }

  async compare(taskId: string, a: number, b: number, options?: CallOptions): Promise<CheckpointComparison> {
    const { namespace } = this.#settings;
    const answer = await callRepeatably(this.#settings, options, () =>
      this.#client.compareCheckpoints(
        { namespace, taskId, a: BigInt(a), b: BigInt(b) },
        requestOptions(this.#settings, options),
      ),
    );
    return {
      a: checkpointView(answer.a!),
      b: checkpointView(answer.b!),
      sameContent: answer.sameContent,
      differences: answer.differences.map(({ what, a, b }) => ({ what, a, b })),
    };
  }

  /** Refused (NEWEST_CHECKPOINT) for the newest one of a task that has not ended. */
  async delete(taskId: string, number: number, options?: CallOptions): Promise<void> {
    const { namespace } = this.#settings;
    await callOnce(() =>
      this.#client.deleteCheckpoint(
        { namespace, taskId, number: BigInt(number) },
        requestOptions(this.#settings, options),
      ),
    );
  }

  /** Keeps the last few (default: as many as the server keeps by itself, 5) and, unless told otherwise, the best. */
  async prune(
    taskId: string,
    options: CallOptions & { readonly keepLast?: number; readonly dropBest?: boolean } = {},
  ): Promise<{ readonly deleted: number; readonly freedBytes: number }> {
    const { namespace } = this.#settings;
    const { keepLast, dropBest } = options;
    const { deleted, freedBytes } = await callOnce(() =>
      this.#client.pruneCheckpoints({ namespace, taskId, keepLast, dropBest }, requestOptions(this.#settings, options)),
    );
    return { deleted, freedBytes: Number(freedBytes) };
  }

  /** Of one task, or of the whole namespace. */
  async statistics(taskId = '', options?: CallOptions): Promise<CheckpointStatisticsView> {
    const { namespace } = this.#settings;
    const facts = await callRepeatably(this.#settings, options, () =>
      this.#client.getCheckpointStatistics({ namespace, taskId }, requestOptions(this.#settings, options)),
    );
    return {
      count: Number(facts.count),
      tasks: Number(facts.tasks),
      sizeBytes: Number(facts.sizeBytes),
      inBlobs: Number(facts.inBlobs),
      oldest: optionalDate(facts.oldest),
      newest: optionalDate(facts.newest),
      bestScore: facts.bestScore,
    };
  }
}

function checkpointView(checkpoint: Checkpoint): CheckpointView {
  return {
    taskId: checkpoint.taskId,
    number: Number(checkpoint.number),
    attempt: checkpoint.attempt,
    epoch: checkpoint.epoch,
    time: optionalDate(checkpoint.time),
    sizeBytes: Number(checkpoint.sizeBytes),
    sha256: checkpoint.sha256,
    encoding: checkpoint.encoding === PayloadEncoding.JSON ? 'json' : 'bytes',
    score: checkpoint.score,
    metadata: checkpoint.metadata,
    inBlob: checkpoint.inBlob,
    worker: checkpoint.worker,
  };
}
