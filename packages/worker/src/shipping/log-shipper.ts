import { type LogLine, LogLineSchema } from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import type { Attempt } from '../attempts/attempt.ts';
import { cleanText } from '../attempts/text.ts';
import { fullJitter } from '../calls/backoff.ts';
import { describe, sessionRefusal } from '../calls/refusal.ts';
import type { LogHub } from './log-hub.ts';

const flushAfterMs = 100;
const batchLines = 2_000;
/** A request stays far below the 4 MiB that a master reads. */
const batchBytes = 1024 * 1024;
const maxLineBytes = 32 * 1024;
/** A line's share of a message beside its text. */
const lineOverheadBytes = 64;
/** Nobody waits longer for room. */
const roomTimeoutMs = 5_000;
const retry = { baseMs: 200, capMs: 5_000 };

export interface LogShipperOptions {
  /** Calls AppendLogs; resolves with the number of lines refused. */
  readonly send: (lines: LogLine[]) => Promise<number>;
  readonly hub: LogHub;
  readonly log: Logger;
  /** What is kept while the master cannot be reached. Beyond, the oldest lines are dropped. Default 8 MiB. */
  readonly maxBufferBytes?: number;
  /** Default 20 000. */
  readonly maxBufferLines?: number;
  /** How long the result of an attempt waits for its lines. Default 5 s. */
  readonly flushTimeoutMs?: number;
}

interface Dropped {
  count: number;
  last: LogLine;
}

/**
 * Sends the lines of attempts in batches, each until it is acknowledged, one call at a time. Positions count lines over
 * all attempts: everything below `#acknowledged` is done with, sent or dropped.
 */
export class LogShipper {
  readonly #options: Required<LogShipperOptions>;
  /** From `#head` on; what is before has been sent or dropped. To shift lines off a long array one by one costs its length each time. */
  #buffer: LogLine[] = [];
  #head = 0;
  #bufferBytes = 0;
  #sending: LogLine[] = [];
  /** Of the line behind the buffer's last. */
  #position = 0;
  /** Lines that had to go, by task and epoch, until a line that says so is on its way. */
  #dropped = new Map<string, Dropped>();
  #waiters: { position: number; resolve: () => void; timer: NodeJS.Timeout }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;
  #roomWaiters: (() => void)[] = [];

  constructor(options: LogShipperOptions) {
    this.#options = { maxBufferBytes: 8 * 1024 * 1024, maxBufferLines: 20_000, flushTimeoutMs: 5_000, ...options };
  }

  append(attempt: Attempt, text: string, stream: string): void {
    if (this.#closed) {
      return;
    }
    const line = create(LogLineSchema, {
      taskId: attempt.taskId,
      epoch: attempt.epoch,
      attempt: attempt.attempt,
      sequence: BigInt(++attempt.logSequence),
      stream: cleanText(stream, 20),
      text: cleanText(text, maxLineBytes),
      time: timestampFromMs(Date.now()),
    });
    attempt.logPosition = this.#position++;
    this.#buffer.push(line);
    this.#bufferBytes += sizeOf(line);
    this.#options.hub.publish(line);
    this.#dropSurplus();
    this.#schedule(this.#waiting >= batchLines ? 0 : flushAfterMs);
  }

  /**
   * Undefined while there is room, or while lines cannot be sent at all: a task is not stopped for a master that is away. Else resolves when
   * there is room again, after some seconds at the latest.
   */
  room(): Promise<void> | undefined {
    if (this.#closed || this.#failures > 0 || !this.#isFilling) {
      return undefined;
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#makeRoom(), roomTimeoutMs);
      this.#roomWaiters.push(() => {
        clearTimeout(timer);
        resolve();
      });
      this.#schedule(0);
    });
  }

  /** Resolves when the lines of an attempt are acknowledged, or cannot be in time; undefined when they are already. */
  flushed(attempt: Attempt): Promise<void> | undefined {
    if (this.#closed || attempt.logPosition < this.#acknowledged) {
      return undefined;
    }
    const position = attempt.logPosition;
    const done = new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#options.log.warn('task log not acknowledged in time', attempt.fields);
        resolve();
      }, this.#options.flushTimeoutMs);
      this.#waiters.push({ position, resolve, timer });
    });
    this.#schedule(0);
    return done;
  }

  /** Drops what is left. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#buffer = [];
    this.#head = 0;
    this.#makeRoom();
    this.#wake(Number.POSITIVE_INFINITY);
  }

  get #acknowledged(): number {
    return this.#position - this.#waiting - this.#sending.length;
  }

  /** Lines in the buffer. */
  get #waiting(): number {
    return this.#buffer.length - this.#head;
  }

  get #isFilling(): boolean {
    const { maxBufferLines, maxBufferBytes } = this.#options;
    return 2 * this.#waiting > maxBufferLines || 2 * this.#bufferBytes > maxBufferBytes;
  }

  #makeRoom(): void {
    for (const resolve of this.#roomWaiters.splice(0)) {
      resolve();
    }
  }

  #schedule(delayMs: number): void {
    // While a call is under way or has failed, the next one is settled already.
    if (this.#closed || this.#sending.length > 0 || this.#failures > 0) {
      return;
    }
    if (delayMs === 0) {
      clearTimeout(this.#timer);
      // A microtask: lines written within one turn of the loop go together.
      queueMicrotask(() => void this.#flush());
    } else if (this.#timer === undefined) {
      this.#timer = setTimeout(() => void this.#flush(), delayMs);
    }
  }

  async #flush(): Promise<void> {
    this.#timer = undefined;
    if (this.#closed || this.#sending.length > 0 || this.#waiting === 0) {
      return;
    }
    let bytes = 0;
    let count = 0;
    while (count < this.#waiting && count < batchLines && bytes < batchBytes) {
      bytes += sizeOf(this.#buffer[this.#head + count++]!);
    }
    this.#sending = this.#buffer.slice(this.#head, this.#head + count);
    this.#buffer = this.#buffer.slice(this.#head + count);
    this.#head = 0;
    this.#bufferBytes -= bytes;
    const dropped = this.#dropped;
    this.#dropped = new Map();
    try {
      const refused = await this.#options.send([...Array.from(dropped.values(), noticeOf), ...this.#sending]);
      this.#failures = 0;
      if (refused > 0) {
        this.#options.log.info('task log refused', { lines: refused });
      }
      this.#sending = [];
      this.#wake(this.#acknowledged);
      if (!this.#isFilling) {
        this.#makeRoom();
      }
      if (this.#waiting > 0) {
        this.#schedule(this.#waiting >= batchLines || this.#waiters.length > 0 ? 0 : flushAfterMs);
      }
    } catch (error) {
      this.#failed(ConnectError.from(error), dropped);
    }
  }

  #failed(error: ConnectError, dropped: Map<string, Dropped>): void {
    if (this.#closed) {
      return;
    }
    if (sessionRefusal(error) !== undefined) {
      // The session's end is noticed and said elsewhere.
      this.close();
      return;
    }
    this.#makeRoom();
    this.#buffer = [...this.#sending, ...this.#buffer.slice(this.#head)];
    this.#head = 0;
    for (const line of this.#sending) {
      this.#bufferBytes += sizeOf(line);
    }
    this.#sending = [];
    for (const [key, { count, last }] of dropped) {
      const later = this.#dropped.get(key);
      this.#dropped.set(key, { count: count + (later?.count ?? 0), last: later?.last ?? last });
    }
    this.#dropSurplus();
    const delayMs = fullJitter(++this.#failures, retry);
    this.#options.log.warn('task log not sent', {
      failures: this.#failures,
      retry_in_ms: delayMs,
      reason: describe(error),
    });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#flush(), delayMs);
  }

  #dropSurplus(): void {
    while (this.#waiting > this.#options.maxBufferLines || this.#bufferBytes > this.#options.maxBufferBytes) {
      this.#dropOldest();
    }
    if (this.#head > 64 && this.#head > this.#waiting) {
      this.#buffer = this.#buffer.slice(this.#head);
      this.#head = 0;
    }
  }

  #dropOldest(): void {
    const line = this.#buffer[this.#head]!;
    this.#head++;
    this.#bufferBytes -= sizeOf(line);
    const key = `${line.taskId}/${line.epoch}`;
    const dropped = this.#dropped.get(key);
    if (dropped === undefined) {
      this.#dropped.set(key, { count: 1, last: line });
    } else {
      dropped.count++;
      dropped.last = line;
    }
    this.#wake(this.#acknowledged);
  }

  #wake(acknowledged: number): void {
    if (this.#waiters.length === 0) {
      return;
    }
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (waiter.position < acknowledged) {
        clearTimeout(waiter.timer);
        waiter.resolve();
      } else {
        this.#waiters.push(waiter);
      }
    }
  }
}

function sizeOf(line: LogLine): number {
  return Buffer.byteLength(line.text) + lineOverheadBytes;
}

/** Takes the place, and the number, of the last line that was dropped. */
function noticeOf({ count, last }: Dropped): LogLine {
  const lines = count === 1 ? '1 line was' : `${count} lines were`;
  return { ...last, stream: 'log', text: `… ${lines} dropped here: the worker could not send them in time` };
}
