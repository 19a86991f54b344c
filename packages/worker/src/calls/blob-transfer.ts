import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { BlobService } from '@baton/contract';
import { type Client, ConnectError } from '@connectrpc/connect';
import { fullJitter } from './backoff.ts';
import { describe, isVerdict, reasonOf } from './refusal.ts';

/** Of one AppendBlob. */
const chunkBytes = 1024 * 1024;
/** Of files, where the master takes as much. */
const fileChunkBytes = 4 * 1024 * 1024;
/** A commit hashes all bytes once more. */
const commitBytesAMs = 20_000;
const callTimeoutMs = 30_000;
const retry = { baseMs: 100, capMs: 2_000 };
/** Without one call that succeeds; about 20 s while nobody answers. */
const maxFailures = 15;

/** What a task can upload. A text is sent as UTF-8. */
export type BlobData = Uint8Array | string | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** A blob could not be sent or fetched. `reason` is the master's, such as BLOB_TOO_LARGE; empty where it could not be reached. */
export class BlobError extends Error {
  override readonly name = 'BlobError';
  readonly reason: string;
  /** What is too large now is too large in the next attempt. */
  readonly nonRetryable: boolean;

  constructor(message: string, reason = '', options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.nonRetryable = reason === 'BLOB_TOO_LARGE';
  }
}

export interface TransferOptions {
  /** Throws when whoever wants the bytes wants them no longer. Asked before each call. */
  readonly check: () => void;
  /** Bytes have moved. */
  readonly moved?: () => void;
}

export interface Uploaded {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** Sends and fetches blobs by the session's connection; goes on where it was when that breaks. */
export class BlobTransfer {
  readonly #client: Client<typeof BlobService>;
  readonly #namespace: string;
  /** Of files, since the session began. */
  sentBytes = 0;

  constructor(client: Client<typeof BlobService>, namespace: string) {
    this.#client = client;
    this.#namespace = namespace;
  }

  /** Uploads; of bytes that the master has already nothing travels, unless they come as a stream. Throws `BlobError`. */
  async upload(data: BlobData, options: TransferOptions): Promise<Uploaded> {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    return bytes instanceof Uint8Array ? this.#uploadBytes(bytes, options) : this.#uploadStream(bytes, options);
  }

  /** All bytes of a blob, verified. Throws `BlobError`. */
  async download(sha256: string, sizeBytes: number, options: TransferOptions): Promise<Uint8Array> {
    const bytes = new Uint8Array(sizeBytes);
    let length = 0;
    for (let failures = 0; ; ) {
      options.check();
      try {
        const request = { namespace: this.#namespace, sha256, offset: BigInt(length) };
        for await (const { data } of this.#client.readBlob(request, { timeoutMs: 10 * callTimeoutMs })) {
          options.check();
          if (length + data.length > sizeBytes) {
            throw new BlobError(`blob ${sha256} has more than the ${sizeBytes} bytes that were told`);
          }
          bytes.set(data, length);
          length += data.length;
          failures = 0;
          options.moved?.();
        }
        break;
      } catch (error) {
        failures = await this.#recover(error, failures + 1, `blob ${sha256} could not be fetched`);
      }
    }
    const actual = createHash('sha256').update(bytes.subarray(0, length)).digest('hex');
    if (actual !== sha256) {
      throw new BlobError(`the ${length} bytes that came for blob ${sha256} have the SHA-256 ${actual}`);
    }
    return bytes;
  }

  /** Uploads a file that does not change; of what the master has already nothing travels. Throws `BlobError`. */
  async uploadFile(path: string, { sha256, sizeBytes }: Uploaded, options: TransferOptions): Promise<void> {
    const request = { namespace: this.#namespace, sizeBytes: BigInt(sizeBytes), sha256, artifact: true };
    const begun = await this.#repeat(options, () => this.#client.beginBlob(request, { timeoutMs: callTimeoutMs }));
    if (begun.blob !== undefined) {
      return;
    }
    const file = await open(path, 'r');
    try {
      const size = Math.min(fileChunkBytes, begun.maxChunkBytes || chunkBytes, Math.max(sizeBytes, 1));
      const buffer = Buffer.allocUnsafe(size);
      for (let offset = 0; offset < sizeBytes; ) {
        const length = Math.min(size, sizeBytes - offset);
        for (let at = 0; at < length; ) {
          const { bytesRead } = await file.read(buffer, at, length - at, offset + at);
          if (bytesRead === 0) {
            throw new BlobError(`${path} has become shorter while it was read`);
          }
          at += bytesRead;
        }
        await this.#append(begun.uploadId, offset, buffer.subarray(0, length), options);
        this.sentBytes += length;
        offset += length;
      }
    } finally {
      await file.close();
    }
    await this.#commit(begun.uploadId, sha256, options, callTimeoutMs + Math.ceil(sizeBytes / commitBytesAMs));
  }

  /** The bytes of a blob from `from` on, in order, piece by piece; goes on where it was when the connection breaks. Throws `BlobError`. */
  async downloadInto(
    sha256: string,
    sizeBytes: number,
    from: number,
    take: (data: Uint8Array) => Promise<void>,
    options: TransferOptions,
  ): Promise<void> {
    let offset = from;
    for (let failures = 0; offset < sizeBytes; ) {
      options.check();
      try {
        const request = { namespace: this.#namespace, sha256, offset: BigInt(offset) };
        for await (const { data } of this.#client.readBlob(request, { timeoutMs: 10 * callTimeoutMs })) {
          options.check();
          await take(data);
          offset += data.length;
          failures = 0;
          options.moved?.();
        }
        if (offset < sizeBytes) {
          throw new BlobError(`blob ${sha256} ended after ${offset} of ${sizeBytes} bytes`);
        }
      } catch (error) {
        failures = await this.#recover(error, failures + 1, `blob ${sha256} could not be fetched`);
      }
    }
  }

  async #uploadBytes(bytes: Uint8Array, options: TransferOptions): Promise<Uploaded> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const sizeBytes = bytes.length;
    const uploadId = await this.#begin(sizeBytes, sha256, options);
    if (uploadId !== undefined) {
      for (let offset = 0; offset < sizeBytes; offset += chunkBytes) {
        await this.#append(uploadId, offset, bytes.subarray(offset, offset + chunkBytes), options);
      }
      await this.#commit(uploadId, sha256, options);
    }
    return { sha256, sizeBytes };
  }

  async #uploadStream(
    data: Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>,
    options: TransferOptions,
  ): Promise<Uploaded> {
    const hash = createHash('sha256');
    // Size and hash are known when the stream ends.
    const uploadId = (await this.#begin(0, '', options))!;
    let sizeBytes = 0;
    const send = async (chunk: Uint8Array) => {
      hash.update(chunk);
      await this.#append(uploadId, sizeBytes, chunk, options);
      sizeBytes += chunk.length;
    };
    let parts: Uint8Array[] = [];
    let gathered = 0;
    for await (let part of data instanceof Blob ? data.stream() : data) {
      while (gathered + part.length >= chunkBytes) {
        const taken = chunkBytes - gathered;
        await send(Buffer.concat([...parts, part.subarray(0, taken)]));
        part = part.subarray(taken);
        parts = [];
        gathered = 0;
      }
      if (part.length > 0) {
        // Copied: whoever made it may use its memory again.
        parts.push(part.slice());
        gathered += part.length;
      }
    }
    if (gathered > 0) {
      await send(Buffer.concat(parts));
    }
    const sha256 = hash.digest('hex');
    await this.#commit(uploadId, sha256, options);
    return { sha256, sizeBytes };
  }

  /** Undefined: the bytes are there already. */
  async #begin(sizeBytes: number, sha256: string, options: TransferOptions): Promise<string | undefined> {
    const request = { namespace: this.#namespace, sizeBytes: BigInt(sizeBytes), sha256 };
    const begun = await this.#repeat(options, () => this.#client.beginBlob(request, { timeoutMs: callTimeoutMs }));
    return begun.blob === undefined ? begun.uploadId : undefined;
  }

  async #append(uploadId: string, offset: number, data: Uint8Array, options: TransferOptions): Promise<void> {
    const request = { namespace: this.#namespace, uploadId, offset: BigInt(offset), data };
    await this.#repeat(options, () => this.#client.appendBlob(request, { timeoutMs: callTimeoutMs }));
    options.moved?.();
  }

  async #commit(uploadId: string, sha256: string, options: TransferOptions, timeoutMs = callTimeoutMs): Promise<void> {
    const request = { namespace: this.#namespace, uploadId, sha256 };
    await this.#repeat(options, () => this.#client.commitBlob(request, { timeoutMs }));
  }

  async #repeat<T>(options: TransferOptions, call: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; ) {
      options.check();
      try {
        return await call();
      } catch (error) {
        failures = await this.#recover(error, failures + 1, 'the blob could not be sent');
      }
    }
  }

  /** Waits before another try; throws when there is no point in one. */
  async #recover(thrown: unknown, failures: number, what: string): Promise<number> {
    if (!(thrown instanceof ConnectError)) {
      throw thrown;
    }
    if (isVerdict(thrown)) {
      throw new BlobError(`${what}: ${thrown.rawMessage}`, reasonOf(thrown) ?? '', { cause: thrown });
    }
    if (failures > maxFailures) {
      throw new BlobError(`${what}: ${describe(thrown)}`, '', { cause: thrown });
    }
    await new Promise((resolve) => setTimeout(resolve, fullJitter(failures, retry)));
    return failures;
  }
}
