import type { Random } from '@baton/store/testing';
import type { Kernel, Machine, Settled, Steps, Wait } from './kernel.ts';

/** So many calls are kept to come again. */
const PAST = 60;

/** How bad the network is. Probabilities per message. */
export interface Weather {
  loss: number;
  duplicate: number;
  /** A message takes up to `slowMs` instead of a millisecond or two. */
  slow: number;
  slowMs: number;
}

export const FAIR: Weather = { loss: 0, duplicate: 0, slow: 0, slowMs: 0 };

/** One call as its server sees it. */
export interface Call {
  /** The caller has gone, and the server was told. */
  aborted: boolean;
  onAbort: (() => void) | null;
}

/** Whoever is there now under a name; restarts change it. */
export interface Server<S> {
  readonly machine: Machine;
  readonly service: S;
}

/** What callers see of a failure: the server's own refusal, or these. */
export const UNAVAILABLE = 'unavailable';
export const DEADLINE = 'deadline exceeded';
export const ABANDONED = 'abandoned';

/** With it a caller gives a call up. */
export interface Abandon {
  now?: () => void;
}

export interface NetworkCounts {
  sent: number;
  lost: number;
  duplicated: number;
  slowed: number;
  cut: number;
  replayed: number;
}

/** Messages between machines: they take time, get lost, come twice, overtake each other; pairs can be cut off. */
export class Network {
  readonly counts: NetworkCounts = { sent: 0, lost: 0, duplicated: 0, slowed: 0, cut: 0, replayed: 0 };
  weather: Weather = FAIR;
  readonly #kernel: Kernel;
  readonly #random: Random;
  readonly #cuts = new Set<string>();
  /** Some of the calls so far: each comes again as its server would get it. */
  readonly #past: (() => void)[] = [];

  constructor(kernel: Kernel, random: Random) {
    this.#kernel = kernel;
    this.#random = random;
  }

  /** Both ways between two names; `*` is everybody. */
  cut(a: string, b: string): void {
    this.#cuts.add(`${a}|${b}`);
  }

  mend(a: string, b: string): void {
    this.#cuts.delete(`${a}|${b}`);
  }

  mendAll(): void {
    this.#cuts.clear();
  }

  reaches(a: string, b: string): boolean {
    if (this.#cuts.size === 0) return true;
    return ![`${a}|${b}`, `${b}|${a}`, `${a}|*`, `${b}|*`].some((pair) => this.#cuts.has(pair));
  }

  /** Delivers, maybe late, maybe twice, maybe never; `lost` is told of the last. */
  send(from: string, to: string, deliver: () => void, lost?: () => void, once = false): void {
    const random = this.#random;
    const { loss } = this.weather;
    const duplicate = once ? 0 : this.weather.duplicate;
    this.counts.sent++;
    if (!this.reaches(from, to)) {
      this.counts.cut++;
      lost?.();
      return;
    }
    if (loss > 0 && random.chance(loss)) {
      this.counts.lost++;
      lost?.();
      return;
    }
    const nowMs = this.#kernel.nowMs;
    this.#kernel.at(nowMs + this.#delayMs(), deliver);
    if (duplicate > 0 && random.chance(duplicate)) {
      this.counts.duplicated++;
      this.#kernel.at(nowMs + this.#delayMs() + random.next() * this.weather.slowMs, deliver);
    }
  }

  #delayMs(): number {
    const random = this.#random;
    const { slow, slowMs } = this.weather;
    if (slow > 0 && random.chance(slow)) {
      this.counts.slowed++;
      return random.next() * slowMs;
    }
    return 0.2 + random.next();
  }

  /** Some calls of the past come again, as from somebody who kept them. Their answers are for nobody. */
  replay(count: number): void {
    for (const again of this.#random.some(this.#past, count)) {
      this.counts.replayed++;
      again();
    }
  }

  #remember(again: () => void): void {
    if (this.#past.length < PAST) this.#past.push(again);
    else if (this.#random.chance(0.1)) this.#past[this.#random.below(PAST)] = again;
  }

  /** A call to whoever is there when the message comes. A duplicate is carried out again, unless `once`; its answer is for nobody. */
  call<S, T>(
    from: Machine,
    place: string,
    to: string,
    server: () => Server<S> | undefined,
    handle: (service: S, call: Call) => Steps<T>,
    timeoutMs: number,
    { once = false, abandon }: { once?: boolean; abandon?: Abandon } = {},
  ): Wait<Settled<T>> {
    return (resume) => {
      const call: Call = { aborted: false, onAbort: null };
      let settled = false;
      const settle = (end: Settled<T>) => {
        if (settled) return;
        settled = true;
        timer.act = null;
        resume(end);
      };
      const reset = () => {
        // Half of the time nobody says that the connection is dead.
        if (this.#random.chance(0.5))
          this.#kernel.at(this.#kernel.nowMs + 1, () => settle({ ok: false, reason: UNAVAILABLE }));
      };
      const giveUp = (reason: string) => {
        if (settled) return;
        settle({ ok: false, reason });
        this.send(place, to, () => {
          call.aborted = true;
          call.onAbort?.();
        });
      };
      const timer = from.after(timeoutMs, () => giveUp(DEADLINE));
      if (abandon) abandon.now = () => giveUp(ABANDONED);
      const answer = (end: Settled<T>) => this.send(to, place, () => settle(end), reset);
      if (!once)
        this.#remember(() => {
          const there = server();
          there?.machine.do(() => there.machine.start(handle(there.service, { aborted: false, onAbort: null })));
        });
      this.send(
        place,
        to,
        () => {
          const there = server();
          if (!there?.machine.alive) {
            reset();
            return;
          }
          const { machine, service } = there;
          machine.onDeath.add(reset);
          const ended = (end: Settled<T>) => {
            machine.onDeath.delete(reset);
            answer(end);
          };
          machine.do(() => machine.start(handle(service, call), ended));
        },
        reset,
        once,
      );
    };
  }
}
