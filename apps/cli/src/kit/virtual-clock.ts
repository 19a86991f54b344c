import type { FunctionClock } from '@baton/client/durable';

interface Timer {
  readonly dueAt: number;
  readonly then: () => void;
  handle: ReturnType<typeof setTimeout> | undefined;
}

/**
 * The machine's clock, and what was skipped: time goes on by itself, and leaps when it is told to. For durable functions, whose short
 * delays and linger times it keeps; the long ones are in the database.
 */
export class VirtualClock implements FunctionClock {
  #skippedMs = 0;
  readonly #timers = new Set<Timer>();
  #turns = 0;
  readonly #onChange: () => void;

  /** `onChange`: a function has begun or ended to wait for this clock. */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Since this process began, ms. */
  readonly now = (): number => performance.now() + this.#skippedMs;

  /** Since the epoch, ms. */
  readonly wallMs = (): number => Date.now() + this.#skippedMs;

  readonly after = (delayMs: number, then: () => void): (() => void) => {
    const timer: Timer = { dueAt: this.now() + delayMs, then, handle: undefined };
    this.#timers.add(timer);
    this.#arm(timer);
    this.#onChange();
    return () => this.#drop(timer);
  };

  readonly turn = (): Promise<void> => {
    this.#turns++;
    this.#onChange();
    return new Promise((resolve) =>
      setImmediate(() => {
        resolve();
        // What the turn sets going by itself is done before anybody looks whether something goes on.
        setImmediate(() => {
          this.#turns--;
          this.#onChange();
        });
      }),
    );
  };

  /** Code of a function is between two waits. */
  get isTurning(): boolean {
    return this.#turns > 0;
  }

  /** Until the first timer, ms; null: none. */
  get nextMs(): number | null {
    let next: number | null = null;
    for (const { dueAt } of this.#timers) next = Math.min(next ?? Number.POSITIVE_INFINITY, dueAt - this.now());
    return next === null ? null : Math.max(0, next);
  }

  /** Leaps to this much in all. */
  skipTo(skippedMs: number): void {
    this.#skippedMs = skippedMs;
    for (const timer of [...this.#timers]) this.#arm(timer);
  }

  #arm(timer: Timer): void {
    clearTimeout(timer.handle);
    const leftMs = Math.max(0, timer.dueAt - this.now());
    timer.handle = setTimeout(
      () => {
        if (timer.dueAt > this.now()) return this.#arm(timer);
        this.#drop(timer);
        timer.then();
      },
      Math.min(leftMs, 0x7fffffff),
    );
  }

  #drop(timer: Timer): void {
    clearTimeout(timer.handle);
    if (this.#timers.delete(timer)) this.#onChange();
  }
}
