import { sha256 } from '@noble/hashes/sha2.js';
import type { Sql } from '../database/connection.ts';

export type BlobPlace = 'postgres' | 'directory';

/** The most bytes of one chunk that is read. */
export const BLOB_CHUNK_BYTES = 1024 * 1024;

/** SHA-256, fed bit by bit. */
export interface IncrementalHash {
  update(data: Uint8Array): unknown;
  digest(): Uint8Array;
}

/** In JavaScript, for where the runtime has no incremental hash of its own; Node's is about ten times as fast. */
export const createPortableHash = (): IncrementalHash => sha256.create();

export interface BlobChunk {
  uploadId: string;
  namespaceId: number;
  /** Of its first byte. */
  offset: number;
  /** At most what one message takes: 4 MiB. */
  data: Uint8Array;
  /** The upload is given up when nothing comes for so long. */
  ttlMs: number;
  /** Of all bytes, where none was announced. */
  maxBytes: number;
}

/** An upload as a chunk found it. */
export interface FoundUpload {
  /** 0: not announced. */
  sizeBytes: number;
  /** Before the chunk, without a gap. */
  receivedBytes: number;
  /** The chunk began there, fits, and is kept. */
  taken: boolean;
}

/** The bytes of a blob, or of an upload, are not where they should be. */
export class BlobBytesMissing extends Error {
  override readonly name = 'BlobBytesMissing';

  constructor(contentId: string, where: string) {
    super(`the bytes of content ${contentId} are not ${where}`);
  }
}

/** Bytes by the upload that brought them, and what they are (SHA-256, hex). */
export interface BlobContent {
  contentId: string;
  sha256: string;
}

/**
 * Where the bytes of blobs are. Which blobs and uploads there are stands in Postgres in any case (blobs.ts); a content is named by the
 * id of its upload. Bytes that are named by a committed blob never change.
 */
export interface BlobStore {
  readonly place: BlobPlace;
  /** Adds a chunk at the end of an upload. Null: there is no such upload (any more). */
  append(sql: Sql, chunk: BlobChunk): Promise<FoundUpload | null>;
  /**
   * Makes the first `sizeBytes` of an upload final if they are what the content says; else changes nothing and gives false. May be
   * repeated. The caller commits the content or forgets it. @throws BlobBytesMissing
   */
  seal(sql: Sql, content: BlobContent, sizeBytes: number): Promise<boolean>;
  /** Bytes from an offset on: at most `maxBytes` and BLOB_CHUNK_BYTES, none only at the end. @throws BlobBytesMissing */
  read(sql: Sql, content: BlobContent, offset: number, maxBytes: number): Promise<Uint8Array>;
  /** What only an upload needed goes: it is committed, or given up. */
  forgetUpload(uploadId: string): Promise<void>;
  /** Removes bytes that no row names any more. It is fine when they are not there. */
  forget(content: BlobContent): Promise<void>;
  /** Removes what a crash left behind: contents that `isKnown` does not know and that are older than `olderThanMs`. Returns how many. */
  removeStray(isKnown: (contentIds: readonly string[]) => Promise<Set<string>>, olderThanMs: number): Promise<number>;
}

/** Where a process reads and writes the bytes of blobs: Postgres always, a directory where it was given one. */
export interface BlobStores {
  postgres: BlobStore;
  directory?: BlobStore;
}
