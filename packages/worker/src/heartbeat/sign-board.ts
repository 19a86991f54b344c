import { monotonicMs } from '../clock.ts';

/** A running attempt as the heartbeat sees it. Times are of `monotonicMs`. */
export interface RunningSign {
  readonly taskId: string;
  readonly epoch: number;
  readonly startedMs: number;
  /** Its last sign: progress, a line, output, a checkpoint, or its start. */
  readonly signMs: number;
  /** Longest silence; 0: no limit. */
  readonly timeoutMs: number;
  /** How far it is, 0 to 1; NaN: it did not say. */
  readonly fraction: number;
}

const wordsPerSeat = 2;
const word = { sequence: 0, epoch: 1 } as const;
const numbersPerSeat = 4;
const number = { started: 0, sign: 1, timeout: 2, fraction: 3 } as const;
const bytesPerSeat = 4 * wordsPerSeat + 8 + 8 * numbersPerSeat;
/** One word that says up to which seat there may be anybody. */
const headBytes = 8;

/**
 * What runs, and when it gave its last sign, in memory that the heartbeat's thread reads: a task that blocks the main loop is seen
 * all the same, its silence too. A seat is taken before the task's code begins. The main thread writes; each seat has a sequence
 * lock, odd while somebody sits down. Signs are single numbers and need none.
 */
export class SignBoard {
  readonly buffer: SharedArrayBuffer;
  readonly #seats: number;
  readonly #head: Int32Array;
  readonly #words: Int32Array;
  readonly #fingerprints: BigInt64Array;
  readonly #numbers: Float64Array;
  /** From this thread's `performance.now()` to `monotonicMs`. */
  readonly #offsetMs = monotonicMs() - performance.now();
  /** Free seats, the lowest last. Of the writer. */
  readonly #free: number[];

  /** @param from the buffer of another thread's board, or how many attempts can run at once */
  constructor(from: SharedArrayBuffer | number = 64) {
    this.buffer = typeof from === 'number' ? new SharedArrayBuffer(headBytes + from * bytesPerSeat) : from;
    this.#seats = (this.buffer.byteLength - headBytes) / bytesPerSeat;
    const numbersAt = headBytes + this.#seats * 8;
    const fingerprintsAt = numbersAt + this.#seats * numbersPerSeat * 8;
    this.#head = new Int32Array(this.buffer, 0, 1);
    this.#words = new Int32Array(this.buffer, headBytes, this.#seats * wordsPerSeat);
    this.#numbers = new Float64Array(this.buffer, numbersAt, this.#seats * numbersPerSeat);
    this.#fingerprints = new BigInt64Array(this.buffer, fingerprintsAt, this.#seats);
    this.#free = typeof from === 'number' ? Array.from({ length: from }, (_, i) => from - 1 - i) : [];
  }

  /**
   * Takes a seat for an attempt that begins; -1 when all are taken: then nobody hears of its signs.
   *
   * @param fingerprint of the lease, see `leaseFingerprint`
   * @param startedAt `performance.now()`
   */
  sit(fingerprint: bigint, epoch: number, startedAt: number, timeoutMs: number): number {
    const seat = this.#free.pop();
    if (seat === undefined) {
      return -1;
    }
    const words = seat * wordsPerSeat;
    const numbers = seat * numbersPerSeat;
    const startedMs = startedAt + this.#offsetMs;
    Atomics.add(this.#words, words + word.sequence, 1);
    this.#fingerprints[seat] = fingerprint;
    this.#numbers[numbers + number.started] = startedMs;
    this.#numbers[numbers + number.sign] = startedMs;
    this.#numbers[numbers + number.timeout] = timeoutMs;
    this.#numbers[numbers + number.fraction] = Number.NaN;
    this.#words[words + word.epoch] = epoch;
    Atomics.add(this.#words, words + word.sequence, 1);
    if (seat >= this.#head[0]!) {
      Atomics.store(this.#head, 0, seat + 1);
    }
    return seat;
  }

  leave(seat: number): void {
    if (seat >= 0) {
      Atomics.store(this.#words, seat * wordsPerSeat + word.epoch, 0);
      this.#free.push(seat);
    }
  }

  /** @param at `performance.now()` */
  sign(seat: number, at: number): void {
    if (seat >= 0) {
      this.#numbers[seat * numbersPerSeat + number.sign] = at + this.#offsetMs;
    }
  }

  /** @param fraction 0 to 1 */
  progress(seat: number, fraction: number): void {
    if (seat >= 0) {
      this.#numbers[seat * numbersPerSeat + number.fraction] = fraction;
    }
  }

  /** Everybody who sits now. */
  read(): RunningSign[] {
    const running: RunningSign[] = [];
    const top = Atomics.load(this.#head, 0);
    for (let seat = 0; seat < top; seat++) {
      const sign = this.#readSeat(seat);
      if (sign !== undefined) {
        running.push(sign);
      }
    }
    return running;
  }

  #readSeat(seat: number): RunningSign | undefined {
    const words = seat * wordsPerSeat;
    const numbers = seat * numbersPerSeat;
    for (;;) {
      const before = Atomics.load(this.#words, words + word.sequence);
      const epoch = Atomics.load(this.#words, words + word.epoch) >>> 0;
      if (before % 2 === 0 && epoch === 0) {
        return undefined;
      }
      const fingerprint = this.#fingerprints[seat]!;
      const sign = {
        taskId: BigInt.asUintN(64, fingerprint ^ (BigInt(epoch) << 40n)).toString(),
        epoch,
        startedMs: this.#numbers[numbers + number.started]!,
        signMs: this.#numbers[numbers + number.sign]!,
        timeoutMs: this.#numbers[numbers + number.timeout]!,
        fraction: this.#numbers[numbers + number.fraction]!,
      };
      // The writer holds the lock for a few stores and runs no other code within, so this ends soon.
      if (before % 2 === 0 && Atomics.load(this.#words, words + word.sequence) === before) {
        return sign;
      }
    }
  }
}
