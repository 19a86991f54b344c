import type { BlobRef } from '@baton/contract';
import { PayloadEncoding } from '@baton/contract';
import { BatonError } from '../calls/error.ts';

/** How the bytes of a blob are to be read. */
export type BlobEncoding = 'json' | 'bytes';

/**
 * Bytes that Baton keeps beside its rows, known by what they are. Stands for them where they are too large to travel in a message: as
 * the input of a submit, as what a task returns. `Content` is what its reader gets: bytes, or the JSON value.
 */
export interface BlobValue<Content = Uint8Array> {
  readonly __baton: 'blob';
  /** Of all bytes, hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly encoding: BlobEncoding;
  /** Never set: it carries the type. */
  readonly __content?: Content;
}

/** What `result()` of a task gives that returns this: a blob is fetched and decoded. */
export type ResultOf<Output> = Output extends BlobValue<infer Content> ? Content : Output;

/** A blob as it is named where it is known already. */
export interface BlobName {
  readonly sha256: string;
  readonly sizeBytes?: number;
  readonly encoding?: BlobEncoding;
}

const SHA256 = /^[0-9a-f]{64}$/;

/**
 * The input of a submit: bytes that were uploaded before, read as `encoding` says (default bytes).
 * Throws `BatonError` (invalid_argument) for what is no SHA-256 in hex.
 */
export function blobInput<Content = Uint8Array>(name: BlobName | string): BlobValue<Content> {
  const { sha256, sizeBytes = 0, encoding = 'bytes' } = typeof name === 'string' ? { sha256: name } : name;
  if (!SHA256.test(sha256)) {
    throw new BatonError({
      code: 'invalid_argument',
      reason: 'INVALID_REQUEST',
      message: `${JSON.stringify(sha256)} is not a SHA-256 of 64 hex digits in lower case`,
      violations: [{ field: 'sha256', description: 'not 64 hex digits in lower case' }],
    });
  }
  return { __baton: 'blob', sha256, sizeBytes, encoding };
}

/** Whether a value is one that `blobs.put`, `blobInput` or a task's `ctx.blob` made (by its shape). */
export function isBlobValue(value: unknown): value is BlobValue {
  if (typeof value !== 'object' || value === null) return false;
  const candidate = value as Partial<BlobValue>;
  return candidate.__baton === 'blob' && typeof candidate.sha256 === 'string' && SHA256.test(candidate.sha256);
}

/** As the contract has it. */
export function blobRefOf({ sha256, sizeBytes, encoding }: BlobValue): {
  sha256: string;
  sizeBytes: bigint;
  encoding: PayloadEncoding;
} {
  return {
    sha256,
    sizeBytes: BigInt(sizeBytes),
    encoding: encoding === 'json' ? PayloadEncoding.JSON : PayloadEncoding.BYTES,
  };
}

export function blobValueOf(ref: BlobRef, encoding?: BlobEncoding): BlobValue {
  return {
    __baton: 'blob',
    sha256: ref.sha256,
    sizeBytes: Number(ref.sizeBytes),
    encoding: encoding ?? (ref.encoding === PayloadEncoding.JSON ? 'json' : 'bytes'),
  };
}
