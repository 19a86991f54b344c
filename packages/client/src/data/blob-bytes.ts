import { sha256 } from '@noble/hashes/sha2.js';

/** What can be uploaded. A text is sent as UTF-8. */
export type BlobData = Uint8Array | string | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** The largest chunk of an upload. */
export const CHUNK_BYTES = 1024 * 1024;

export interface IncrementalHash {
  update(data: Uint8Array): unknown;
  digest(): Uint8Array;
}

/** SHA-256 of bytes that come bit by bit: no platform but Node has that built in. */
export const createHash = (): IncrementalHash => sha256.create();

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

export function hexOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/** SHA-256 of bytes that are all there, hex; by the platform's own code where the page is one that may use it. */
export async function hashOf(bytes: Uint8Array): Promise<string> {
  const { subtle } = globalThis.crypto ?? {};
  if (subtle === undefined) return hexOf(sha256(bytes));
  return hexOf(new Uint8Array(await subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)));
}

/** Bytes as they are in memory; undefined for what has to be read. */
export function inMemory(data: BlobData): Uint8Array | undefined {
  if (typeof data === 'string') return new TextEncoder().encode(data);
  return data instanceof Uint8Array ? data : undefined;
}

/** The bytes of a stream in chunks of one size, the last one smaller. No more than about one chunk is held. */
export async function* chunksOf(data: Exclude<BlobData, string | Uint8Array>): AsyncGenerator<Uint8Array> {
  const source = data instanceof Blob ? data.stream() : data;
  let chunk = new Uint8Array(CHUNK_BYTES);
  let filled = 0;
  for await (const part of iterate(source)) {
    for (let at = 0; at < part.byteLength; ) {
      const taken = Math.min(part.byteLength - at, CHUNK_BYTES - filled);
      chunk.set(part.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
      if (filled === CHUNK_BYTES) {
        yield chunk;
        chunk = new Uint8Array(CHUNK_BYTES);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield chunk.subarray(0, filled);
}

/** Not every browser can iterate over its streams. */
async function* iterate(source: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (!('getReader' in source)) {
    yield* source;
    return;
  }
  const reader = source.getReader();
  let isDone = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isDone = done;
      if (done) return;
      yield value;
    }
  } finally {
    // Whoever stops reading tells the source so.
    if (!isDone) await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}
