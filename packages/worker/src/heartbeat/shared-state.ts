import { SignBoard } from './sign-board.ts';

/** A fingerprint of the set of leases held: count, and exclusive or over (task_id xor epoch << 40). */
export interface Digest {
  readonly count: number;
  readonly xor: bigint;
}

const word = { sequence: 0, held: 1, running: 2, draining: 3, maxLagMs: 4 } as const;
const long = { xor: 0, loopStampMs: 1, completed: 2, failed: 3, leaseUntilMs: 4 } as const;
const longsAt = 32;
const bytes = longsAt + 8 * 5;

/** The memory of a state, to be handed to a thread. */
export interface SharedBuffers {
  readonly state: SharedArrayBuffer;
  readonly signs: SharedArrayBuffer;
}

/**
 * What the main thread tells the heartbeat thread without a message: a main loop that is blocked answers none, and its
 * leases have to be renewed all the same. The main thread writes, the heartbeat thread reads; but for the end of the lease time,
 * which goes the other way.
 */
export class SharedState {
  /** What runs, and its signs. */
  readonly signs: SignBoard;
  readonly #buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;

  /** @param from of another thread's state, or how many attempts can run at once */
  constructor(from: SharedBuffers | number = 64) {
    const buffer = typeof from === 'number' ? new SharedArrayBuffer(bytes) : from.state;
    this.signs = new SignBoard(typeof from === 'number' ? from : from.signs);
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer, 0, 8);
    this.#longs = new BigInt64Array(buffer, longsAt, 5);
  }

  /** For the other thread. */
  get buffers(): SharedBuffers {
    return { state: this.#buffer, signs: this.signs.buffer };
  }

  /** Count and fingerprint change together: a sequence lock, odd while it is written. */
  writeDigest(count: number, xor: bigint): void {
    Atomics.add(this.#words, word.sequence, 1);
    Atomics.store(this.#words, word.held, count);
    Atomics.store(this.#longs, long.xor, BigInt.asIntN(64, xor));
    Atomics.add(this.#words, word.sequence, 1);
  }

  readDigest(): Digest {
    for (;;) {
      const before = Atomics.load(this.#words, word.sequence);
      const count = Atomics.load(this.#words, word.held);
      const xor = Atomics.load(this.#longs, long.xor);
      // The writer holds the lock for four stores and runs no other code within, so this ends soon.
      if (before % 2 === 0 && Atomics.load(this.#words, word.sequence) === before) {
        return { count, xor: BigInt.asUintN(64, xor) };
      }
    }
  }

  /**
   * The worker's own end of its lease time, of `monotonicMs`. Written by the heartbeat with each renewal, read before work begins: a
   * process that stood still does not hear of the end before it reads what waits in its sockets.
   */
  set leaseUntilMs(ms: number) {
    Atomics.store(this.#longs, long.leaseUntilMs, BigInt(Math.floor(ms)));
  }

  get leaseUntilMs(): number {
    return Number(Atomics.load(this.#longs, long.leaseUntilMs));
  }

  set running(count: number) {
    Atomics.store(this.#words, word.running, count);
  }

  get running(): number {
    return Atomics.load(this.#words, word.running);
  }

  set draining(draining: boolean) {
    Atomics.store(this.#words, word.draining, draining ? 1 : 0);
  }

  get draining(): boolean {
    return Atomics.load(this.#words, word.draining) === 1;
  }

  countEnd(succeeded: boolean): void {
    Atomics.add(this.#longs, succeeded ? long.completed : long.failed, 1n);
  }

  get completed(): bigint {
    return Atomics.load(this.#longs, long.completed);
  }

  get failed(): bigint {
    return Atomics.load(this.#longs, long.failed);
  }

  /** Main loop: it turned at `nowMs`, `lagMs` later than it should have. */
  stampLoop(nowMs: number, lagMs: number): void {
    Atomics.store(this.#longs, long.loopStampMs, BigInt(Math.round(nowMs)));
    if (lagMs > Atomics.load(this.#words, word.maxLagMs)) {
      Atomics.store(this.#words, word.maxLagMs, Math.round(lagMs));
    }
  }

  /** The longest delay of the main loop since this was taken last, the present one included. */
  takeLoopLagMs(nowMs: number, stampEveryMs: number): number {
    return this.#lagMs(Atomics.exchange(this.#words, word.maxLagMs, 0), nowMs, stampEveryMs);
  }

  /** The same, and the next heartbeat reports it all the same. */
  peekLoopLagMs(nowMs: number, stampEveryMs: number): number {
    return this.#lagMs(Atomics.load(this.#words, word.maxLagMs), nowMs, stampEveryMs);
  }

  #lagMs(past: number, nowMs: number, stampEveryMs: number): number {
    const present = Math.round(nowMs) - Number(Atomics.load(this.#longs, long.loopStampMs)) - stampEveryMs;
    return Math.max(0, past, present);
  }
}

/** What one lease adds to the fingerprint. */
export function leaseFingerprint(taskId: string, epoch: number): bigint {
  return BigInt(taskId) ^ (BigInt(epoch) << 40n);
}
