import { BlobService } from '@baton/contract';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { BatonError } from '../calls/error.ts';
import { reconnecting } from '../calls/reconnect.ts';
import { optionalDate } from '../calls/time.ts';
import { type BlobData, CHUNK_BYTES, chunksOf, createHash, hashOf, hexOf, inMemory } from './blob-bytes.ts';
import { type BlobEncoding, type BlobName, type BlobValue, blobInput } from './blob-value.ts';

/** A commit hashes all bytes once more. */
const COMMIT_BYTES_A_MS = 20_000;

interface FileName {
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface PutBlobOptions extends CallOptions {
  /** How whoever receives the blob is to read it. Default bytes. */
  readonly encoding?: BlobEncoding;
}

export interface BlobView {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly createTime?: Date;
  /** Where its bytes are: `postgres` or `directory`. */
  readonly place: string;
}

/** The bytes of a blob: all at once, or in chunks as they come. Verified: what is not the blob throws at its end. */
export interface BlobContent extends AsyncIterable<Uint8Array> {
  bytes(): Promise<Uint8Array>;
  text(): Promise<string>;
  json<T = unknown>(): Promise<T>;
  stream(): ReadableStream<Uint8Array>;
}

/** Bytes that are too large for a message, up to 100 MiB each. Every call rejects with `BatonError`. */
export class Blobs {
  readonly #client: Client<typeof BlobService>;
  readonly #settings: CallSettings;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(BlobService, transport);
    this.#settings = settings;
  }

  /**
   * Uploads bytes, and gives what stands for them. The same bytes are sent once: of what is kept already nothing travels, unless it
   * comes as a stream. Repeated while the server is unavailable.
   */
  async put(data: BlobData, options: PutBlobOptions = {}): Promise<BlobValue> {
    const bytes = inMemory(data);
    const { sha256, sizeBytes } = bytes
      ? await this.#putBytes(bytes, options)
      : await this.#putStream(chunksOf(data as Exclude<BlobData, string | Uint8Array>), options);
    return { __baton: 'blob', sha256, sizeBytes, encoding: options.encoding ?? 'bytes' };
  }

  /** Reads a blob, from where the connection broke when it does. Nothing is asked for before its bytes are. */
  get(blob: BlobName | string, options?: CallOptions): BlobContent {
    const { sha256 } = blobInput(blob);
    const iterate = () => this.#read(sha256, options);
    const bytes = async (): Promise<Uint8Array> => {
      const parts: Uint8Array[] = [];
      let length = 0;
      for await (const part of this.#receive(sha256, options)) {
        parts.push(part);
        length += part.byteLength;
      }
      const all = new Uint8Array(length);
      let at = 0;
      for (const part of parts) {
        all.set(part, at);
        at += part.byteLength;
      }
      verify(sha256, await hashOf(all), length);
      return all;
    };
    const text = async () => new TextDecoder('utf-8', { fatal: true }).decode(await bytes());
    return {
      [Symbol.asyncIterator]: iterate,
      bytes,
      text,
      json: async <T>() => JSON.parse(await text()) as T,
      stream: () => {
        const source = iterate();
        return new ReadableStream<Uint8Array>({
          async pull(controller) {
            const { done, value } = await source.next();
            if (done) controller.close();
            else controller.enqueue(value);
          },
          async cancel() {
            await source.return();
          },
        });
      },
    };
  }

  /** The bytes of a blob behind an offset, as they come; of a part its SHA-256 says nothing. */
  readFrom(blob: BlobName | string, offset: number, options?: CallOptions): AsyncIterable<Uint8Array> {
    const { sha256 } = blobInput(blob);
    return offset === 0 ? this.#read(sha256, options) : this.#receive(sha256, options, BigInt(offset));
  }

  async stat(blob: BlobName | string, options?: CallOptions): Promise<BlobView> {
    const { namespace } = this.#settings;
    const { sha256 } = blobInput(blob);
    const found = await callRepeatably(this.#settings, options, () =>
      this.#client.statBlob({ namespace, sha256 }, requestOptions(this.#settings, options)),
    );
    return {
      sha256,
      sizeBytes: Number(found.blob?.sizeBytes ?? 0n),
      createTime: optionalDate(found.createTime),
      place: found.place,
    };
  }

  /** Of any size that artifacts may have, read twice and never whole: known bytes are not sent. */
  async putFile(data: Uint8Array | string | Blob, options: CallOptions = {}): Promise<FileName> {
    const { namespace } = this.#settings;
    const source = data instanceof Blob ? data : new Blob([inMemory(data)! as Uint8Array<ArrayBuffer>]);
    const hash = createHash();
    for await (const chunk of chunksOf(source)) hash.update(chunk);
    const sha256 = hexOf(hash.digest());
    const sizeBytes = source.size;
    const { uploadId, blob, maxChunkBytes } = await callRepeatably(this.#settings, options, () =>
      this.#client.beginBlob(
        { namespace, sha256, sizeBytes: BigInt(sizeBytes), artifact: true },
        requestOptions(this.#settings, options),
      ),
    );
    if (blob === undefined) {
      const chunkBytes = maxChunkBytes || CHUNK_BYTES;
      for (let offset = 0; offset < sizeBytes; offset += chunkBytes) {
        const chunk = await source.slice(offset, offset + chunkBytes).arrayBuffer();
        await this.#append(uploadId, offset, new Uint8Array(chunk), options);
      }
      await this.#commit(uploadId, sha256, options, Math.ceil(sizeBytes / COMMIT_BYTES_A_MS));
    }
    return { sha256, sizeBytes };
  }

  async #putBytes(bytes: Uint8Array, options: CallOptions): Promise<{ sha256: string; sizeBytes: number }> {
    const sha256 = await hashOf(bytes);
    const sizeBytes = bytes.byteLength;
    const uploadId = await this.#begin(sizeBytes, sha256, options);
    if (uploadId === undefined) return { sha256, sizeBytes };
    for (let offset = 0; offset < sizeBytes; offset += CHUNK_BYTES)
      await this.#append(uploadId, offset, bytes.subarray(offset, offset + CHUNK_BYTES), options);
    await this.#commit(uploadId, sha256, options);
    return { sha256, sizeBytes };
  }

  async #putStream(
    chunks: AsyncIterable<Uint8Array>,
    options: CallOptions,
  ): Promise<{ sha256: string; sizeBytes: number }> {
    const hash = createHash();
    // Size and hash are known when the stream ends.
    const uploadId = (await this.#begin(0, '', options))!;
    let offset = 0;
    for await (const chunk of chunks) {
      hash.update(chunk);
      await this.#append(uploadId, offset, chunk, options);
      offset += chunk.byteLength;
    }
    const sha256 = hexOf(hash.digest());
    await this.#commit(uploadId, sha256, options);
    return { sha256, sizeBytes: offset };
  }

  /** Undefined: the bytes are there already. */
  async #begin(sizeBytes: number, sha256: string, options: CallOptions): Promise<string | undefined> {
    const { namespace } = this.#settings;
    const begun = await callRepeatably(this.#settings, options, () =>
      this.#client.beginBlob(
        { namespace, sizeBytes: BigInt(sizeBytes), sha256 },
        requestOptions(this.#settings, options),
      ),
    );
    return begun.blob === undefined ? begun.uploadId : undefined;
  }

  async #append(uploadId: string, offset: number, data: Uint8Array, options: CallOptions): Promise<void> {
    const { namespace } = this.#settings;
    await callRepeatably(this.#settings, options, () =>
      this.#client.appendBlob(
        { namespace, uploadId, offset: BigInt(offset), data },
        requestOptions(this.#settings, options),
      ),
    );
  }

  async #commit(uploadId: string, sha256: string, options: CallOptions, extraMs = 0): Promise<void> {
    const { namespace } = this.#settings;
    await callRepeatably(this.#settings, options, () =>
      this.#client.commitBlob({ namespace, uploadId, sha256 }, requestOptions(this.#settings, options, extraMs)),
    );
  }

  async *#read(sha256: string, options: CallOptions | undefined): AsyncGenerator<Uint8Array, void, undefined> {
    const hash = createHash();
    let length = 0;
    for await (const part of this.#receive(sha256, options)) {
      hash.update(part);
      length += part.byteLength;
      yield part;
    }
    verify(sha256, hexOf(hash.digest()), length);
  }

  #receive(sha256: string, options: CallOptions | undefined, from = 0n): AsyncGenerator<Uint8Array, void, undefined> {
    const { namespace } = this.#settings;
    let next = from;
    return reconnecting(this.#settings, options, {
      open: (callOptions) => this.#client.readBlob({ namespace, sha256, offset: next }, callOptions),
      take: ({ data }) => {
        next += BigInt(data.byteLength);
        return { items: [data], step: 'more' };
      },
      endsWithServer: true,
    });
  }
}

function verify(expected: string, actual: string, length: number): void {
  if (expected === actual) return;
  throw new BatonError({
    code: 'data_loss',
    reason: 'BLOB_CORRUPT',
    message: `the ${length} bytes that came have the SHA-256 ${actual}, not ${expected}`,
  });
}
