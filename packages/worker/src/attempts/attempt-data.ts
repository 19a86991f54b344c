// What a running task keeps at the master, in the shapes of the client: the context is passed to tasks as it is.
import type { BlobData } from '../calls/blob-transfer.ts';

export type BlobEncoding = 'json' | 'bytes';

/** Stands for bytes that were uploaded; has the shape of the client's `BlobValue`. */
export interface BlobValue<Content = Uint8Array> {
  readonly __baton: 'blob';
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly encoding: BlobEncoding;
  readonly __content?: Content;
}

export interface SaveOptions {
  readonly score?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** See the client's `TaskCheckpoints`. */
export interface AttemptCheckpoints {
  readonly latest: number;
  save(value: unknown, options?: SaveOptions): Promise<number>;
  load<T = unknown>(number?: number): Promise<T | undefined>;
}

/** Names a file that a task has produced; has the shape of the client's `ArtifactValue`. */
export interface ArtifactValue {
  readonly __baton: 'artifact';
  readonly name: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface HandedArtifact {
  readonly name: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** See the client's `TaskArtifacts`. */
export interface AttemptArtifacts {
  readonly inputs: readonly HandedArtifact[];
  /** In pieces: for executors, that read a program's file with care. */
  put(name: string, source: string | URL | Uint8Array | AsyncIterable<Uint8Array>): Promise<ArtifactValue>;
  get(name: string): Promise<string>;
  /** A directory with all that the attempt is handed, by name, for reading; removed when the attempt's code has ended. */
  directory(): Promise<string>;
}

/** The files of an attempt, as the worker ends it. */
export interface AttemptFilesEnd extends AttemptArtifacts {
  /** Names and contents for the result, once all is uploaded; rejects when something is not. */
  finished(): Promise<ReadonlyMap<string, { readonly sha256: string; readonly sizeBytes: number }>>;
  /** When no code of the attempt runs any more. */
  dispose(): Promise<void>;
}

/** See the client's `TaskBlobs`. */
export type AttemptBlobs = <Content = Uint8Array>(
  data: BlobData,
  options?: { readonly encoding?: BlobEncoding },
) => Promise<BlobValue<Content>>;
