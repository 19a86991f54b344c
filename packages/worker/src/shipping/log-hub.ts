import { randomUUID } from 'node:crypto';
import type { LogLine } from '@baton/contract';

/** In memory for readers that come later or read slowly; beyond either, the oldest go. */
const defaults = { maxLines: 10_000, maxBytes: 8 * 1024 * 1024 };
/** Of one message, far below what clients read. */
const batch = { lines: 1_000, bytes: 512 * 1024 };
/** A line beside its text. */
const lineOverheadBytes = 200;

export interface FollowOptions {
  /** Empty: every task. */
  readonly taskId: string;
  /** Of an earlier batch; empty: none. */
  readonly cursor?: string;
  /** So many of the newest lines first, where there is no cursor. */
  readonly recent: number;
  /** Of one task: its last line until now, so that it is noticed when later ones are missed. */
  readonly last?: LastLine | undefined;
  /** Whether nothing more will come: looked at when all that there is was taken. */
  readonly isOver: () => boolean;
}

/** Lines of an attempt are numbered without a gap. */
export interface LastLine {
  readonly epoch: number;
  readonly sequence: bigint;
}

export interface LogBatch {
  readonly lines: LogLine[];
  readonly cursor: string;
  /** Lines before these that a reader has missed. */
  readonly skipped: number;
}

/**
 * What runs here writes, kept for a while in memory for all that read it, each at its own pace: lines are numbered, and a reader is a
 * number. One that is too slow misses the lines that have gone, and holds up nobody.
 */
export class LogHub {
  /** Of this life of the worker: numbers of another mean nothing here. */
  readonly #life = randomUUID().slice(0, 8);
  readonly #limits: { readonly maxLines: number; readonly maxBytes: number };
  /** From `#head` on. */
  #lines: LogLine[] = [];
  #head = 0;
  #bytes = 0;
  /** Number of the first line; the first of all has 1. */
  #first = 1;
  readonly #followers = new Set<{ readonly taskId: string; wake: () => void }>();

  constructor(limits: Partial<typeof defaults> = {}) {
    this.#limits = { ...defaults, ...limits };
  }

  /** How many read. */
  get followers(): number {
    return this.#followers.size;
  }

  publish(line: LogLine): void {
    this.#lines.push(line);
    this.#bytes += sizeOf(line);
    const { maxLines, maxBytes } = this.#limits;
    while (this.#lines.length - this.#head > maxLines || this.#bytes > maxBytes) {
      this.#bytes -= sizeOf(this.#lines[this.#head]!);
      this.#head++;
      this.#first++;
    }
    // To shift lines off a long array one by one costs its length each time.
    if (this.#head > 64 && this.#head * 2 > this.#lines.length) {
      this.#lines = this.#lines.slice(this.#head);
      this.#head = 0;
    }
    this.#wake(line.taskId);
  }

  /** An attempt of this task has ended here: who waits for its lines looks whether there will be any. */
  ended(taskId: string): void {
    this.#wake(taskId);
  }

  /** Whether a line of this task is in memory. */
  has(taskId: string): boolean {
    return this.#lines.some((line, at) => at >= this.#head && line.taskId === taskId);
  }

  /** Lines of one task or of all, in batches, as they come; ends when nothing more will come, or at once with the signal. */
  async *follow(options: FollowOptions, signal: AbortSignal): AsyncGenerator<LogBatch> {
    const { taskId, isOver } = options;
    const reader = this.#place(options);
    let woken = false;
    let resume = () => {};
    const wake = () => {
      woken = true;
      resume();
    };
    const follower = { taskId, wake };
    this.#followers.add(follower);
    signal.addEventListener('abort', wake);
    try {
      while (!signal.aborted) {
        woken = false;
        const taken = this.#take(reader, taskId);
        if (taken !== undefined) {
          yield taken;
        } else if (isOver()) {
          return;
        } else if (!woken) {
          await new Promise<void>((resolve) => {
            resume = resolve;
          });
        }
      }
    } finally {
      this.#followers.delete(follower);
      signal.removeEventListener('abort', wake);
    }
  }

  get #next(): number {
    return this.#first + this.#lines.length - this.#head;
  }

  #at(number: number): LogLine {
    return this.#lines[this.#head + number - this.#first]!;
  }

  /** Where a reader begins. */
  #place({ taskId, cursor = '', recent, last }: FollowOptions): Reader {
    const [life, number, epoch, sequence] = cursor.split('.');
    if (life === this.#life && Number.isSafeInteger(Number(number))) {
      const next = Math.min(Number(number) + 1, this.#next);
      const isKnown = taskId !== '' && sequence !== undefined && /^\d+$/.test(sequence);
      return { next, last: isKnown ? { epoch: Number(epoch), sequence: BigInt(sequence) } : undefined };
    }
    const most = cursor === '' ? recent : Number.POSITIVE_INFINITY;
    let next = this.#next;
    for (let found = 0, at = next; found < most && at > this.#first; ) {
      if (matches(this.#at(--at), taskId)) {
        found++;
        next = at;
      }
    }
    if (taskId === '' || next === this.#next) {
      return { next, last };
    }
    const first = this.#at(next);
    return { next, last: { epoch: first.epoch, sequence: first.sequence - 1n } };
  }

  #take(reader: Reader, taskId: string): LogBatch | undefined {
    let skipped = 0;
    if (reader.next < this.#first) {
      skipped = taskId === '' ? this.#first - reader.next : 0;
      reader.next = this.#first;
    }
    const lines: LogLine[] = [];
    let bytes = 0;
    while (reader.next < this.#next && lines.length < batch.lines && bytes < batch.bytes) {
      const line = this.#at(reader.next++);
      if (!matches(line, taskId)) {
        continue;
      }
      if (taskId !== '') {
        skipped += missedBetween(reader.last, line);
        reader.last = { epoch: line.epoch, sequence: line.sequence };
      }
      lines.push(line);
      bytes += sizeOf(line);
    }
    if (lines.length === 0) {
      return undefined;
    }
    const { last } = reader;
    const place = taskId === '' || last === undefined ? '' : `.${last.epoch}.${last.sequence}`;
    return { lines, cursor: `${this.#life}.${reader.next - 1}${place}`, skipped };
  }

  #wake(taskId: string): void {
    for (const follower of this.#followers) {
      if (follower.taskId === '' || follower.taskId === taskId) {
        follower.wake();
      }
    }
  }
}

interface Reader {
  /** Number of the next line to look at. */
  next: number;
  /** Of one task: the last line that was handed on. */
  last: LastLine | undefined;
}

function missedBetween(last: LastLine | undefined, line: LogLine): number {
  return last?.epoch === line.epoch ? Number(line.sequence - last.sequence - 1n) : 0;
}

function matches(line: LogLine, taskId: string): boolean {
  return taskId === '' || line.taskId === taskId;
}

function sizeOf(line: LogLine): number {
  return line.text.length + lineOverheadBytes;
}
