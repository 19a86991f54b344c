import { Code, ConnectError } from '@connectrpc/connect';
import { compressedFlag } from '@connectrpc/connect/protocol';
import { fastGzip } from './gzip.ts';

/** Before each message: one byte of flags and four of its length. */
export const frameHeadBytes = 5;

/** Larger messages keep the buffer that they came together in, of a few socket reads. */
const ownBytes = 128 * 1024;

/** @param flag 0, or `compressedFlag` */
export function framed(bytes: Uint8Array, flag: number): Buffer {
  const frame = Buffer.allocUnsafe(frameHeadBytes + bytes.length);
  frame[0] = flag;
  frame.writeUInt32BE(bytes.length, 1);
  frame.set(bytes, frameHeadBytes);
  return frame;
}

export async function framedCompressed(bytes: Uint8Array): Promise<Buffer> {
  return framed(await fastGzip.compress(bytes as Uint8Array<ArrayBuffer>), compressedFlag);
}

/** A copy, without what was read beside it; and no Buffer, so that bytes of a message are what they always are. */
export function joined(chunks: readonly Buffer[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** The messages of a stream, as its bytes come in. What is compressed is read, and the order stays. */
export class FrameReader {
  readonly #maxBytes: number;
  readonly #onMessage: (bytes: Uint8Array) => void;
  readonly #onError: (error: ConnectError) => void;
  #rest: Buffer[] = [];
  #restBytes = 0;
  /** What the head says that is there tells how many bytes are worth looking at. */
  #wantedBytes = frameHeadBytes;
  #tail: Promise<void> | undefined;
  #isOver = false;

  /**
   * @param maxBytes of one message, after decompression
   * @param onMessage what it throws is the error
   * @param onError at most once, and nothing after it: of a message that is too large, or that cannot be read
   */
  constructor(maxBytes: number, onMessage: (bytes: Uint8Array) => void, onError: (error: ConnectError) => void) {
    this.#maxBytes = maxBytes;
    this.#onMessage = onMessage;
    this.#onError = onError;
  }

  push(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#rest.push(chunk);
    this.#restBytes += chunk.length;
    if (this.#restBytes < this.#wantedBytes) return;
    const bytes = this.#rest.length === 1 ? chunk : Buffer.concat(this.#rest, this.#restBytes);
    let at = 0;
    this.#wantedBytes = frameHeadBytes;
    while (bytes.length - at >= frameHeadBytes) {
      const size = bytes.readUInt32BE(at + 1);
      if (size > this.#maxBytes) {
        this.#fail(
          new ConnectError(
            `message size ${size} is larger than configured readMaxBytes ${this.#maxBytes}`,
            Code.ResourceExhausted,
          ),
        );
        return;
      }
      if (bytes.length - at < frameHeadBytes + size) {
        this.#wantedBytes = frameHeadBytes + size;
        break;
      }
      const begin = at + frameHeadBytes;
      const message = bytes.subarray(begin, begin + size);
      // What came in pieces and was put together here is not copied again, for what little may lie beside it.
      const isOwn = bytes !== chunk && size >= ownBytes;
      this.#take(bytes[at]!, isOwn ? new Uint8Array(message.buffer, message.byteOffset, size) : joined([message]));
      if (this.#isOver) return;
      at = begin + size;
    }
    this.#rest = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#restBytes = bytes.length - at;
  }

  /** The stream has ended on the other side. Calls back, or hands over the error, after the last message. */
  end(onEnd: () => void): void {
    const finish = () => {
      if (this.#isOver) return;
      if (this.#restBytes > 0)
        this.#fail(new ConnectError('protocol error: incomplete envelope', Code.InvalidArgument));
      else {
        this.#isOver = true;
        onEnd();
      }
    };
    if (this.#tail === undefined) finish();
    else this.#tail = this.#tail.then(finish);
  }

  #take(flags: number, bytes: Uint8Array): void {
    if (flags === 0 && this.#tail === undefined) {
      this.#give(bytes);
      return;
    }
    const read = async () => {
      const message = flags === 0 ? bytes : await fastGzip.decompress(bytes as Uint8Array<ArrayBuffer>, this.#maxBytes);
      if (!this.#isOver) this.#give(message);
    };
    if ((flags & ~compressedFlag) !== 0) this.#fail(new ConnectError(`unknown flags ${flags}`, Code.Internal));
    else {
      const tail: Promise<void> = (this.#tail ?? Promise.resolve())
        .then(read)
        .catch((error) => this.#fail(ConnectError.from(error)))
        .then(() => {
          if (this.#tail === tail) this.#tail = undefined;
        });
      this.#tail = tail;
    }
  }

  #give(message: Uint8Array): void {
    try {
      this.#onMessage(message);
    } catch (error) {
      this.#fail(ConnectError.from(error, Code.Internal));
    }
  }

  #fail(error: ConnectError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#rest = [];
    this.#onError(error);
  }
}
