import type { Attempt, DataSink } from './attempt.ts';

/** Attempts whose inputs are fetched, or lie here, before they begin. */
const mostAttempts = 8;
/** Of inputs that are blobs, which lie in memory. */
const mostBytes = 64 * 1024 * 1024;

/**
 * Fetches what attempts that wait are handed, blobs and files, while others run. What cannot be fetched now is no failure: the attempt
 * fetches it itself when it has begun.
 */
export class FetchAhead {
  readonly #data: DataSink;
  readonly #kept = new Map<Attempt, { bytes: number; input: Promise<Uint8Array | undefined> | undefined }>();
  #bytes = 0;

  constructor(data: DataSink) {
    this.#data = data;
  }

  /** For an attempt that cannot begin yet; the first ones only. */
  consider(attempt: Attempt): void {
    const { inputBlob, artifacts } = attempt.lease;
    const names = Object.keys(artifacts);
    if ((inputBlob === undefined && names.length === 0) || this.#kept.size >= mostAttempts) {
      return;
    }
    const bytes = Number(inputBlob?.sizeBytes ?? 0n);
    if (this.#bytes + bytes > mostBytes) {
      return;
    }
    this.#bytes += bytes;
    const input = inputBlob === undefined ? undefined : this.#data.input(attempt).catch(() => undefined);
    this.#kept.set(attempt, { bytes, input });
    if (names.length > 0 && this.#data.files !== undefined) {
      const files = attempt.artifacts;
      void (async () => {
        for (const name of names) {
          await files.get(name);
        }
      })().catch(() => {});
    }
  }

  /** It begins, or never will. Its input where that was fetched, or is about to be; undefined in it: it could not be. */
  leave(attempt: Attempt): Promise<Uint8Array | undefined> | undefined {
    const kept = this.#kept.get(attempt);
    if (kept === undefined) {
      return undefined;
    }
    this.#kept.delete(attempt);
    this.#bytes -= kept.bytes;
    return kept.input;
  }
}
