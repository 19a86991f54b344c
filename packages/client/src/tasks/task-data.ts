import type { ArtifactValue } from '../data/artifacts.ts';
import type { BlobData } from '../data/blob-bytes.ts';
import type { BlobEncoding, BlobValue } from '../data/blob-value.ts';

export interface SaveCheckpointOptions {
  /** The higher the better: the best checkpoint is kept whatever its age. Finite. */
  readonly score?: number;
  /** One's own words, shown with the checkpoint. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Where a task can go on from when its worker dies, or its attempt fails. */
export interface TaskCheckpoints {
  /** Number of the newest that is saved, by this attempt or an earlier one; 0: none. */
  readonly latest: number;
  /**
   * Saves where the task stands; resolves with the checkpoint's number when it is durable, and never before. A `Uint8Array` is kept
   * as it is, anything else as JSON; up to 100 MiB. Saves are numbered in the order of the calls. Of a task's checkpoints the last
   * five stay, and the best.
   *
   * Rejects with the reason of `signal` when the lease is lost: somebody else has the task. It is tried again while the master is away.
   */
  save(value: unknown, options?: SaveCheckpointOptions): Promise<number>;
  /** The newest checkpoint, or one by its number; `undefined` where there is none (any more). */
  load<T = unknown>(number?: number): Promise<T | undefined>;
}

/** Files: those that the task is handed, and those that it leaves to others. */
export interface TaskArtifacts {
  /** What it is handed. */
  readonly inputs: readonly { readonly name: string; readonly sha256: string; readonly sizeBytes: number }[];
  /**
   * Leaves a file to others under a name: the one at a path (or a `file:` URL), as it is now, or these bytes. Up to 10 GiB, and at most
   * 1 000 of a task; of one that is kept already nothing travels. It is there once the task has succeeded, and never without that; of
   * two of one name the later counts. What it gives may be returned, for others to be handed it. Rejects with `ArtifactError`.
   */
  put(name: string, source: string | URL | Uint8Array): Promise<ArtifactValue>;
  /** The path of a file that the task is handed, for reading, until the attempt is over. Verified; fetched where it is not at hand. */
  get(name: string): Promise<string>;
  /** A directory with all files that it is handed, by name. */
  directory(): Promise<string>;
}

/**
 * Uploads bytes that are too large for a message, up to 100 MiB; what it gives is to be returned by the task. `encoding` says how the
 * reader of the result is to read them, default bytes; `Content` is the type that the reader gets.
 */
export type TaskBlobs = <Content = Uint8Array>(
  data: BlobData,
  options?: { readonly encoding?: BlobEncoding },
) => Promise<BlobValue<Content>>;
