// What a running task keeps at the master, in the shapes of the client: the context is passed to tasks as it is.
import type { BlobData } from './blob-transfer.ts';

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

/** See the client's `TaskBlobs`. */
export type AttemptBlobs = <Content = Uint8Array>(
  data: BlobData,
  options?: { readonly encoding?: BlobEncoding },
) => Promise<BlobValue<Content>>;
