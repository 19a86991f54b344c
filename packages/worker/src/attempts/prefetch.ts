/** What one exchange that carried results and an offer showed. */
export interface RoundTrip {
  /** Leases asked for, and given. */
  readonly asked: number;
  readonly given: number;
  /** Leases that waited for a slot when the answer came, before it was added. */
  readonly left: number;
  /** A slot was free when the answer came. */
  readonly idle: boolean;
}

/** Tasks that take longer than this, on average, are not prefetched: another worker may have a slot for them. */
const longTaskMs = 100;
const weight = 0.05;

/**
 * How many leases to hold beyond the slots, so that work is at hand while an exchange is under way. It follows what
 * happens: whoever ran dry although the master had more doubles it, whoever had plenty left lowers it. What is held in
 * advance is never more than about a tenth of a second of work.
 */
export class Prefetch {
  readonly #slots: number;
  readonly #cap: number;
  #value = 0;
  #averageMs: number | undefined;

  constructor(slots: number, cap: number) {
    this.#slots = slots;
    this.#cap = cap;
  }

  /** Leases beyond the slots. 0 until tasks have proved to be short. */
  get value(): number {
    return Math.min(this.#value, this.#limit());
  }

  taskEnded(ranMs: number): void {
    this.#averageMs = this.#averageMs === undefined ? ranMs : this.#averageMs + (ranMs - this.#averageMs) * weight;
  }

  /** Others wait for what is held in advance: no more than this, until it proves to be too little. */
  lowerTo(value: number): void {
    this.#value = Math.min(this.#value, value);
  }

  roundTrip({ asked, given, left, idle }: RoundTrip): void {
    const limit = this.#limit();
    if (idle && left === 0 && asked > 0 && given >= asked) {
      this.#value = Math.min(limit, Math.max(this.#slots, this.#value * 2));
    } else if (left > this.#value / 2) {
      this.#value = Math.min(limit, Math.floor(this.#value * 0.9));
    } else {
      this.#value = Math.min(limit, this.#value);
    }
  }

  #limit(): number {
    const averageMs = this.#averageMs;
    if (averageMs === undefined || averageMs > longTaskMs) {
      return 0;
    }
    return Math.min(this.#cap, Math.floor((this.#slots * longTaskMs) / Math.max(averageMs, 0.001)));
  }
}
