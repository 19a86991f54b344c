/** Virtual time, machines that stop, go on and die, and what they do step by step. Nothing here waits for real. */

/** Something that will be known later: calls back once, in its own time. */
export type Wait<T> = (resume: (value: T) => void) => void;
/** What a machine does step by step; each `yield` waits. */
export type Steps<T> = Generator<Wait<never>, T, never>;

export interface Timer {
  readonly atMs: number;
  readonly order: number;
  act: (() => void) | null;
}

/** Waits for one thing in a sequence of steps. */
export function* until<T>(wait: Wait<T>): Steps<T> {
  return (yield wait as unknown as Wait<never>) as unknown as T;
}

/** Virtual time: what happens, in order of its time and then of its planning. */
export class Kernel {
  nowMs = 0;
  /** How much has happened. */
  happened = 0;
  #order = 0;
  readonly #heap: Timer[] = [];

  at(atMs: number, act: () => void): Timer {
    const timer: Timer = { atMs: Math.max(atMs, this.nowMs), order: this.#order++, act };
    const heap = this.#heap;
    let i = heap.push(timer) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (isBefore(heap[up]!, timer)) break;
      heap[i] = heap[up]!;
      i = up;
    }
    heap[i] = timer;
    return timer;
  }

  /** Runs until this time, or until `done` says so after something happened, or until nothing is left to happen. */
  run(untilMs: number, done: () => boolean = () => false): void {
    for (let next = this.#heap[0]; next && next.atMs <= untilMs; next = this.#heap[0]) {
      this.#removeFirst();
      if (!next.act) continue;
      this.nowMs = next.atMs;
      this.happened++;
      next.act();
      if (done()) return;
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (isBefore(last, heap[child]!)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

const isBefore = (a: Timer, b: Timer) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

/**
 * A failure that the steps of a machine may meet; everything else that is thrown is a defect of the simulation. Not an Error: there
 * are thousands in each seed, and nobody wants their stacks.
 */
export class Failed {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

export type Settled<T> = { ok: true; value: T } | { ok: false; reason: string };

/** A process: it can be stopped (SIGSTOP), go on, and die. What comes for it while it is stopped comes when it goes on. */
export class Machine {
  readonly name: string;
  readonly kernel: Kernel;
  alive = true;
  stopped = false;
  /** Times in which it stood still; the last one may be open. */
  readonly stops: { fromMs: number; toMs: number }[] = [];
  readonly onDeath = new Set<() => void>();
  #late: (() => void)[] = [];

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.name = name;
  }

  do(act: () => void): void {
    if (!this.alive) return;
    if (this.stopped) this.#late.push(act);
    else act();
  }

  after(delayMs: number, act: () => void): Timer {
    return this.kernel.at(this.kernel.nowMs + delayMs, () => this.do(act));
  }

  sleep(delayMs: number): Wait<void> {
    return (resume) => void this.after(delayMs, () => resume());
  }

  /** Begins now; tells how it ended. Dies with the machine. */
  start<T>(steps: Steps<T>, ended?: (end: Settled<T>) => void): void {
    const step = (value: unknown) => {
      let next: IteratorResult<Wait<never>, T>;
      try {
        next = steps.next(value as never);
      } catch (error) {
        if (!(error instanceof Failed)) throw error;
        ended?.({ ok: false, reason: error.reason });
        return;
      }
      if (next.done) ended?.({ ok: true, value: next.value });
      else wait(next.value);
    };
    const wait = (on: Wait<never>) => {
      let once = false;
      on((value) => {
        if (once) return;
        once = true;
        this.do(() => step(value));
      });
    };
    this.do(() => step(undefined));
  }

  /** Begins now, beside what begins it; the wait is for its end. */
  fork<T>(steps: Steps<T>): Wait<Settled<T>> {
    let end: Settled<T> | undefined;
    let waiting: ((end: Settled<T>) => void) | undefined;
    this.start(steps, (result) => {
      end = result;
      waiting?.(result);
    });
    return (resume) => {
      if (end) resume(end);
      else waiting = resume;
    };
  }

  stop(): void {
    if (!this.alive || this.stopped) return;
    this.stopped = true;
    this.stops.push({ fromMs: this.kernel.nowMs, toMs: Number.POSITIVE_INFINITY });
  }

  goOn(): void {
    if (!this.alive || !this.stopped) return;
    this.stopped = false;
    this.stops.at(-1)!.toMs = this.kernel.nowMs;
    const late = this.#late;
    this.#late = [];
    for (const act of late) this.do(act);
  }

  die(): void {
    if (!this.alive) return;
    this.alive = false;
    this.stopped = false;
    const last = this.stops.at(-1);
    if (last) last.toMs = Math.min(last.toMs, this.kernel.nowMs);
    this.#late = [];
    for (const act of this.onDeath) act();
  }
}
