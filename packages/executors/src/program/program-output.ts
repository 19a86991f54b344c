import type { Readable } from 'node:stream';
import { LineSplitter } from './line-splitter.ts';

/** What has no line end for so long is shown without one. */
const idleFlushMs = 1_000;
/** The end of what was printed, for the message of a failure. */
const tailBytes = 16 * 1024;

/** Where the lines of a program go. */
export interface LineSink {
  log(text: string, stream: string): void;
  /** Undefined: now; else when to go on. */
  logRoom?(): Promise<void> | undefined;
}

/** Counts what is kept of both streams together. */
export class LogBudget {
  #leftBytes: number;
  droppedLines = 0;
  droppedBytes = 0;

  constructor(maxBytes: number) {
    this.#leftBytes = maxBytes;
  }

  take(bytes: number): boolean {
    if (this.#leftBytes < bytes) {
      this.#leftBytes = Math.min(this.#leftBytes, 0);
      this.droppedLines++;
      this.droppedBytes += bytes;
      return false;
    }
    this.#leftBytes -= bytes;
    return true;
  }
}

/**
 * One stream of a program: its lines go to the log as they come, its reading waits while the log has no room, and its end is kept for the
 * message of a failure. `capture`: also kept whole, up to so many bytes.
 */
export class ProgramOutput {
  readonly #stream: Readable;
  readonly #name: string;
  #sink: LineSink | undefined;
  #budget: LogBudget | undefined;
  readonly #splitter: LineSplitter;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #captured: Buffer[] = [];
  #capturedBytes = 0;
  #captureLimit = 0;
  #timer: NodeJS.Timeout | undefined;
  #received = 0;
  /** When the stream has ended, or was broken off. */
  readonly ended: Promise<void>;

  constructor(stream: Readable, name: string) {
    this.#stream = stream;
    this.#name = name;
    this.#splitter = new LineSplitter((line) => this.#line(line));
    stream.on('data', (chunk: Buffer) => this.#data(chunk));
    this.ended = new Promise((resolve) => {
      const end = () => {
        clearTimeout(this.#timer);
        this.#splitter.end();
        resolve();
      };
      stream.once('close', end);
      stream.once('error', () => stream.destroy());
    });
  }

  /** From now on its lines belong to this task. */
  attach(sink: LineSink, budget: LogBudget, captureLimit: number): void {
    this.#sink = sink;
    this.#budget = budget;
    this.#captureLimit = captureLimit;
    this.#captured = [];
    this.#capturedBytes = 0;
    this.#tail = [];
    this.#tailBytes = 0;
  }

  /** Resolves when what was printed before now has been read: it may still be in the pipe. */
  async caughtUp(): Promise<void> {
    for (let quietTurns = 0; quietTurns < 2; ) {
      const before = this.#received;
      const isWaiting = this.#stream.isPaused();
      await new Promise((resolve) => (isWaiting ? setTimeout(resolve, 5) : setImmediate(resolve)));
      quietTurns = this.#received === before && !isWaiting ? quietTurns + 1 : 0;
    }
  }

  /** What it began belongs to the task that it is taken from. */
  detach(): void {
    this.#splitter.flush();
    this.#sink = undefined;
  }

  /** Nobody waits for what may still come. */
  destroy(): void {
    this.#stream.destroy();
  }

  get tail(): string {
    return Buffer.concat(this.#tail).toString();
  }

  get captured(): Buffer {
    return Buffer.concat(this.#captured);
  }

  get capturedTooMuch(): boolean {
    return this.#capturedBytes > this.#captureLimit;
  }

  #data(chunk: Buffer): void {
    clearTimeout(this.#timer);
    this.#received += chunk.length;
    this.#keepTail(chunk);
    if (this.#captureLimit > 0) {
      this.#capturedBytes += chunk.length;
      if (this.#capturedBytes <= this.#captureLimit) {
        this.#captured.push(chunk);
      }
    }
    this.#splitter.write(chunk);
    if (this.#splitter.isPending) {
      this.#timer = setTimeout(() => this.#splitter.flush(), idleFlushMs);
      this.#timer.unref();
    }
    const room = this.#sink?.logRoom?.();
    if (room !== undefined) {
      this.#stream.pause();
      void room.then(() => this.#stream.resume());
    }
  }

  #keepTail(chunk: Buffer): void {
    // A copy: a slice would keep the whole chunk.
    this.#tail.push(Buffer.from(chunk.length > tailBytes ? chunk.subarray(chunk.length - tailBytes) : chunk));
    this.#tailBytes += this.#tail.at(-1)!.length;
    while (this.#tailBytes - this.#tail[0]!.length >= tailBytes) {
      this.#tailBytes -= this.#tail.shift()!.length;
    }
  }

  #line(line: string): void {
    if (this.#sink !== undefined && this.#budget!.take(Buffer.byteLength(line) + 1)) {
      this.#sink.log(line, this.#name);
    }
  }
}
