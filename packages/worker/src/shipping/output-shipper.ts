import { type OutputChunk, OutputChunkSchema, type RefusedResult } from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Attempt } from '../attempts/attempt.ts';
import { fullJitter } from '../calls/backoff.ts';
import { describe, sessionRefusal } from '../calls/refusal.ts';
import { OutputError } from '../errors.ts';

/** Buffered for one attempt, beyond which its writes wait. */
const attemptBytes = 1024 * 1024;
/** Of one attempt in one call. */
const shareBytes = 256 * 1024;
/** A request stays far below the 4 MiB that a master reads. */
const batchBytes = 1024 * 1024;
/** Small writes gather in blocks. */
const minBlockBytes = 4 * 1024;
const maxBlockBytes = 64 * 1024;
/** A little output waits for more. */
const gatherMs = 10;
const retry = { baseMs: 100, capMs: 5_000 };

export interface OutputShipperOptions {
  /** Calls AppendOutput; resolves with what was not taken. */
  readonly send: (chunks: OutputChunk[]) => Promise<readonly RefusedResult[]>;
  readonly log: Logger;
  /** Buffered for all attempts together; one that has nothing buffered may always have a block. Default 8 MiB. */
  readonly maxBufferBytes?: number;
  /** What one attempt may have written without awaiting, beyond the write that is on its way. Default 8 MiB. */
  readonly maxPendingBytes?: number;
  /** How long a result that is no success waits for its output. Default 5 s. */
  readonly flushTimeoutMs?: number;
}

interface Pending {
  rest: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** What one attempt has written and the master has not acknowledged. */
interface Stream {
  readonly attempt: Attempt;
  /** Of the first byte that is not acknowledged. */
  offset: number;
  /** Blocks, each with its filled part. */
  blocks: { bytes: Uint8Array; from: number; to: number }[];
  bytes: number;
  pending: Pending[];
  pendingBytes: number;
  broken: Error | undefined;
  idle: (() => void)[];
}

/**
 * Sends what attempts stream: in order, each byte until it is acknowledged, one call at a time. Memory is bounded: a write waits until
 * there is room.
 */
export class OutputShipper {
  readonly #options: Required<OutputShipperOptions>;
  readonly #streams = new Map<Attempt, Stream>();
  #bytes = 0;
  #sending = false;
  #timer: NodeJS.Timeout | undefined;
  #timerIsRetry = false;
  #failures = 0;
  #closed = false;

  constructor(options: OutputShipperOptions) {
    this.#options = {
      maxBufferBytes: 8 * 1024 * 1024,
      maxPendingBytes: 8 * 1024 * 1024,
      flushTimeoutMs: 5_000,
      ...options,
    };
  }

  /** Bytes that are held here, of all attempts. */
  get bufferedBytes(): number {
    return this.#bytes;
  }

  /**
   * Resolves when there is room for more. Until then the bytes must not be changed. Rejects when they will not be kept: the attempt is
   * over, or its output broke. A rejection that nobody waits for ends nothing.
   */
  write(attempt: Attempt, data: string | Uint8Array): Promise<void> {
    const written = this.#write(attempt, data);
    written.catch(() => {});
    return written;
  }

  /**
   * For an attempt whose code has ended: resolves when all that it wrote is kept, with an error when it cannot be. Undefined when
   * there is nothing to wait for. `succeeded`: waits as long as it takes; a success is not to be acknowledged before its output.
   */
  ended(attempt: Attempt, succeeded: boolean): Promise<Error | undefined> | undefined {
    const stream = this.#streams.get(attempt);
    if (stream === undefined) {
      return undefined;
    }
    return this.#flushed(stream, succeeded ? undefined : this.#options.flushTimeoutMs).then((inTime) => {
      if (!inTime) {
        this.#options.log.warn('task output not acknowledged in time', attempt.fields);
      }
      const { broken } = stream;
      this.#remove(stream, new OutputError('the attempt is over'));
      return broken;
    });
  }

  /** The lease is another's by now: what was written is void. */
  discard(attempt: Attempt): void {
    const stream = this.#streams.get(attempt);
    if (stream !== undefined) {
      this.#remove(stream, attempt.stop ?? new OutputError('the lease of the attempt was lost'));
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const attempt of [...this.#streams.keys()]) {
      this.discard(attempt);
    }
  }

  async #write(attempt: Attempt, data: string | Uint8Array): Promise<void> {
    if (this.#closed || attempt.phase !== 'running') {
      throw attempt.stop ?? new OutputError('the attempt is over');
    }
    let stream = this.#streams.get(attempt);
    if (stream === undefined) {
      stream = {
        attempt,
        offset: 0,
        blocks: [],
        bytes: 0,
        pending: [],
        pendingBytes: 0,
        broken: undefined,
        idle: [],
      };
      this.#streams.set(attempt, stream);
    }
    if (stream.broken !== undefined) {
      throw stream.broken;
    }
    const rest = typeof data === 'string' ? encoder.encode(data) : data;
    const behind = stream.pendingBytes - (stream.pending[0]?.rest.byteLength ?? 0);
    if (stream.pending.length > 0 && behind + rest.byteLength > this.#options.maxPendingBytes) {
      const unawaited = behind + rest.byteLength;
      this.#break(
        stream,
        new OutputError(`${unawaited} bytes were written and not awaited: await ctx.output.write(…)`),
      );
      throw stream.broken;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // A write that waits behind others may be changed by its writer, who does not wait: a copy of what is small.
    const isCopied = stream.pending.length > 0 && typeof data !== 'string';
    stream.pending.push({ rest: isCopied ? rest.slice() : rest, resolve, reject });
    stream.pendingBytes += rest.byteLength;
    this.#fill(stream);
    this.#schedule(stream.bytes >= maxBlockBytes ? 0 : gatherMs);
    await promise;
  }

  /** Takes from the writes that wait as much as there is room for. */
  #fill(stream: Stream): void {
    while (stream.pending.length > 0) {
      const write = stream.pending[0]!;
      const room = this.#roomOf(stream);
      if (room <= 0 && write.rest.byteLength > 0) {
        return;
      }
      const taken = write.rest.subarray(0, Math.min(room, maxBlockBytes));
      this.#keep(stream, taken);
      stream.pendingBytes -= taken.byteLength;
      write.rest = write.rest.subarray(taken.byteLength);
      if (write.rest.byteLength === 0) {
        stream.pending.shift();
        write.resolve();
      }
    }
  }

  #roomOf(stream: Stream): number {
    if (stream.bytes >= attemptBytes || this.#bytes >= this.#options.maxBufferBytes) {
      return stream.bytes === 0 ? maxBlockBytes : 0;
    }
    return attemptBytes - stream.bytes;
  }

  #keep(stream: Stream, data: Uint8Array): void {
    stream.bytes += data.byteLength;
    this.#bytes += data.byteLength;
    let rest = data;
    while (rest.byteLength > 0) {
      let block = stream.blocks.at(-1);
      if (block === undefined || block.to === block.bytes.byteLength) {
        const size = Math.min(maxBlockBytes, Math.max(minBlockBytes, rest.byteLength));
        block = { bytes: new Uint8Array(size), from: 0, to: 0 };
        stream.blocks.push(block);
      }
      const part = rest.subarray(0, block.bytes.byteLength - block.to);
      block.bytes.set(part, block.to);
      block.to += part.byteLength;
      rest = rest.subarray(part.byteLength);
    }
  }

  #schedule(delayMs: number): void {
    if (this.#closed || this.#sending || (this.#timer !== undefined && this.#timerIsRetry)) {
      return;
    }
    if (delayMs === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      // A microtask: what is written within one turn of the loop goes together.
      queueMicrotask(() => void this.#send());
    } else {
      this.#timer ??= setTimeout(() => void this.#send(), delayMs);
    }
  }

  async #send(): Promise<void> {
    if (this.#closed || this.#sending) {
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerIsRetry = false;
    const sent = this.#takeBatch();
    if (sent.length === 0) {
      return;
    }
    this.#sending = true;
    try {
      const refused = await this.#options.send(sent.map(({ chunk }) => chunk));
      this.#failures = 0;
      this.#sending = false;
      for (const { stream, chunk } of sent) {
        const no = refused.find((each) => each.taskId === chunk.taskId && each.epoch === chunk.epoch);
        if (no === undefined) {
          this.#acknowledge(stream, chunk.data.byteLength);
        } else {
          this.#options.log.warn('task output refused', {
            ...stream.attempt.fields,
            reason: no.reason,
            refusal: no.message,
          });
          this.#break(stream, new OutputError(`the master refused the output: ${no.reason} ${no.message}`));
        }
      }
    } catch (error) {
      this.#sending = false;
      this.#failed(
        ConnectError.from(error),
        sent.map(({ stream }) => stream),
      );
    }
    if (this.#streams.size > 0) {
      const isUrgent = [...this.#streams.values()].some(
        (each) => each.bytes >= maxBlockBytes || (each.idle.length > 0 && each.bytes > 0),
      );
      if (isUrgent) {
        this.#schedule(0);
      } else if (this.#bytes > 0) {
        this.#schedule(gatherMs);
      }
    }
  }

  /** A share of each stream; the ones that were served go to the end, so that none is passed over for ever. */
  #takeBatch(): { stream: Stream; chunk: OutputChunk }[] {
    const batch: { stream: Stream; chunk: OutputChunk }[] = [];
    let size = 0;
    for (const stream of [...this.#streams.values()]) {
      if (size >= batchBytes || batch.length >= 1_000) {
        break;
      }
      if (stream.bytes === 0 || stream.broken !== undefined) {
        continue;
      }
      const data = headOf(stream, Math.min(shareBytes, batchBytes - size));
      size += data.byteLength;
      const { taskId, epoch } = stream.attempt;
      batch.push({ stream, chunk: create(OutputChunkSchema, { taskId, epoch, offset: BigInt(stream.offset), data }) });
      this.#streams.delete(stream.attempt);
      this.#streams.set(stream.attempt, stream);
    }
    return batch;
  }

  #acknowledge(stream: Stream, count: number): void {
    // Discarded while the call was under way.
    if (this.#streams.get(stream.attempt) !== stream || stream.broken !== undefined) {
      return;
    }
    stream.offset += count;
    stream.bytes -= count;
    this.#bytes -= count;
    let left = count;
    while (left > 0) {
      const block = stream.blocks[0]!;
      const part = Math.min(left, block.to - block.from);
      block.from += part;
      left -= part;
      if (block.from === block.to && block.to === block.bytes.byteLength) {
        stream.blocks.shift();
      } else if (block.from === block.to) {
        // The rest of the block is still good for more.
        break;
      }
    }
    if (stream.bytes === 0) {
      stream.blocks = [];
    }
    for (const each of this.#streams.values()) {
      this.#fill(each);
    }
    if (stream.bytes === 0 && stream.pending.length === 0) {
      wake(stream);
    }
  }

  #failed(error: ConnectError, streams: readonly Stream[]): void {
    if (this.#closed) {
      return;
    }
    if (sessionRefusal(error) !== undefined) {
      // The session's end is noticed and said elsewhere.
      this.close();
      return;
    }
    if (error.code === Code.InvalidArgument || error.code === Code.Unimplemented) {
      const why = error.code === Code.Unimplemented ? 'it is of an older version' : describe(error);
      for (const stream of streams) {
        this.#break(stream, new OutputError(`the master does not take the output: ${why}`));
      }
      return;
    }
    // A task that waits for room is not hung: it is the master that does not answer.
    for (const stream of this.#streams.values()) {
      if (stream.pending.length > 0) {
        stream.attempt.sign();
      }
    }
    const delayMs = fullJitter(++this.#failures, retry);
    this.#options.log.warn('task output not sent', {
      failures: this.#failures,
      retry_in_ms: delayMs,
      reason: describe(error),
    });
    clearTimeout(this.#timer);
    this.#timerIsRetry = true;
    this.#timer = setTimeout(() => void this.#send(), delayMs);
  }

  /** Resolves true when all is acknowledged or will never be, false when the time is over before. */
  #flushed(stream: Stream, timeoutMs: number | undefined): Promise<boolean> {
    if (stream.broken !== undefined || (stream.bytes === 0 && stream.pending.length === 0)) {
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => resolve(false), timeoutMs);
      stream.idle.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
      this.#schedule(0);
    });
  }

  /** Nothing more of it is sent; its writes fail. The attempt learns of it at its end at the latest. */
  #break(stream: Stream, error: Error): void {
    if (stream.broken !== undefined) {
      return;
    }
    stream.broken = error;
    this.#bytes -= stream.bytes;
    stream.bytes = 0;
    stream.blocks = [];
    stream.pendingBytes = 0;
    for (const write of stream.pending.splice(0)) {
      write.reject(error);
    }
    wake(stream);
  }

  #remove(stream: Stream, error: Error): void {
    this.#break(stream, error);
    if (this.#streams.get(stream.attempt) === stream) {
      this.#streams.delete(stream.attempt);
    }
    for (const each of this.#streams.values()) {
      this.#fill(each);
    }
  }
}

const encoder = new TextEncoder();

function wake(stream: Stream): void {
  for (const resolve of stream.idle.splice(0)) {
    resolve();
  }
}

/** The first bytes that are not acknowledged, in one piece. */
function headOf(stream: Stream, maxBytes: number): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(Math.min(maxBytes, stream.bytes));
  let at = 0;
  for (const { bytes, from, to } of stream.blocks) {
    const part = bytes.subarray(from, Math.min(to, from + head.byteLength - at));
    head.set(part, at);
    at += part.byteLength;
    if (at === head.byteLength) {
      break;
    }
  }
  return head;
}
