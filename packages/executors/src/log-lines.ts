import { Writable } from 'node:stream';

/** A line that does not end is cut here. */
const MAX_LINE_BYTES = 16 * 1024;

/** How much of a program's output is kept as lines, of all its streams together. */
export interface LineBudget {
  bytes: number;
}

/**
 * Splits what a program writes into lines, as they come. Bytes that are not UTF-8 are shown as such; what is beyond the budget is read,
 * so that the program goes on, counted, and not kept.
 */
export class LineSplitter extends Writable {
  /** Read and not kept. */
  droppedBytes = 0;
  readonly #onLine: (line: string) => void;
  readonly #budget: LineBudget;
  #rest = Buffer.alloc(0);

  constructor(onLine: (line: string) => void, budget: LineBudget) {
    super();
    this.#onLine = onLine;
    this.#budget = budget;
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#add(chunk.subarray(from, at));
      this.#flush();
      from = at + 1;
    }
    this.#add(chunk.subarray(from));
    done();
  }

  override _final(done: () => void): void {
    if (this.#rest.byteLength > 0) this.#flush();
    done();
  }

  #add(part: Buffer): void {
    let left = part;
    while (this.#rest.byteLength + left.byteLength > MAX_LINE_BYTES) {
      const room = MAX_LINE_BYTES - this.#rest.byteLength;
      this.#rest = Buffer.concat([this.#rest, left.subarray(0, room)]);
      left = left.subarray(room);
      this.#flush();
    }
    if (left.byteLength > 0) this.#rest = Buffer.concat([this.#rest, left]);
  }

  #flush(): void {
    const line = this.#rest;
    this.#rest = Buffer.alloc(0);
    if (this.#budget.bytes < line.byteLength) {
      this.#budget.bytes = 0;
      this.droppedBytes += line.byteLength + 1;
      return;
    }
    this.#budget.bytes -= line.byteLength + 1;
    this.#onLine(line.toString('utf8').replace(/\r$/, ''));
  }
}
