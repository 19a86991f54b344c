import type { Engine } from '@baton/engine';
import type { Sql } from '@baton/store';
import type { Activity } from './activity.ts';
import { readStanding, skipTime } from './clock-schema.ts';
import { KitError } from './errors.ts';
import type { VirtualClock } from './virtual-clock.ts';

export interface TimeKeeperOptions {
  readonly sql: Sql;
  readonly clock: VirtualClock;
  readonly engine: Engine;
  /** Of the worker of this moment. */
  readonly worker: () => Activity;
  /** Calls of the test that change something, and what the kit itself does. */
  readonly calls: Activity;
  /** Of the worker. */
  readonly slots: number;
  /** Whether time is skipped while a test waits for an end. */
  readonly skips: boolean;
  /** Code may run for so long before it is an error that time cannot pass, ms of the real clock. */
  readonly patienceMs: number;
  /** What a run that is waited for waits for, in words. */
  readonly describe: (waiting: readonly string[]) => Promise<string>;
}

/** What can happen: something by itself, or nothing before a time; `nextMs` until then, null: nothing ever. */
type Outlook = { readonly quiet: false } | { readonly quiet: true; readonly nextMs: number | null };

interface Waiter {
  readonly what: string;
  /** Of the task or the run that it waits for. */
  readonly id: string;
  fail(error: Error): void;
}

/** Why a ready task is not taken, where it will be by itself. */
const PASSING: ReadonlySet<string> = new Set(['BEHIND_OTHERS', 'PREFERS_WORKER']);
/** Looks so often at what the database says while something goes on there, ms. */
const LOOK_MS = 5;
/** So long nothing may be about to happen before it is told, ms: the test may be about to send what is waited for. */
const STUCK_MS = 2_000;

/**
 * Lets time pass. It is skipped only when nothing else can happen: no code of a task or a step runs, nothing is on its way between
 * worker, master and database, and what is ready no worker can take.
 */
export class TimeKeeper {
  readonly #options: TimeKeeperOptions;
  readonly #waiters = new Set<Waiter>();
  #changes = 0;
  #changed: (() => void) | undefined;
  #isPumping = false;
  #turn: Promise<unknown> = Promise.resolve();
  #isStopped = false;

  constructor(options: TimeKeeperOptions) {
    this.#options = options;
  }

  /** Something in this process has begun or ended. */
  readonly noteChange = (): void => {
    this.#changes++;
    this.#changed?.();
  };

  stop(): void {
    this.#isStopped = true;
    for (const waiter of this.#waiters) waiter.fail(new KitError('STOPPED', 'the kit was stopped'));
    this.noteChange();
  }

  /** Waits for an end; meanwhile time is skipped whenever nothing else can happen. */
  async wait<T>(what: string, id: string, end: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#isStopped) throw new KitError('STOPPED', 'the kit was stopped');
    const abort = new AbortController();
    const { promise: failed, reject } = Promise.withResolvers<never>();
    const waiter: Waiter = { what, id, fail: reject };
    this.#waiters.add(waiter);
    void this.#pump();
    try {
      return await Promise.race([end(abort.signal), failed]);
    } finally {
      this.#waiters.delete(waiter);
      abort.abort();
    }
  }

  /** Resolves when nothing can happen before time passes. */
  settle(): Promise<void> {
    return this.#inTurn(() => this.#settle());
  }

  /** Lets this much time pass, from one due time to the next, and what becomes due happen. */
  advance(ms: number, whileRunning: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const { clock } = this.#options;
      const until = clock.wallMs() + ms;
      for (;;) {
        if (!whileRunning) await this.#settle();
        const leftMs = until - clock.wallMs();
        if (leftMs <= 0) return;
        const nextMs = await this.#nextDueMs();
        await this.#skip(nextMs === null ? leftMs : Math.min(leftMs, Math.max(1, nextMs)));
      }
    });
  }

  async #settle(): Promise<void> {
    const { patienceMs } = this.#options;
    const begun = performance.now();
    for (;;) {
      const outlook = await this.#outlook();
      if (outlook.quiet) {
        if (outlook.nextMs === null || outlook.nextMs > 0) return;
        await this.#options.engine.look();
      } else {
        if (performance.now() - begun > patienceMs)
          throw new KitError(
            'STILL_RUNNING',
            `time cannot pass while code runs, and after ${patienceMs} ms there is still ${this.#describeRunning()}. Let it end, or let time pass all the same: advance(…, { whileRunning: true })`,
          );
        await this.#change();
      }
    }
  }

  #describeRunning(): string {
    const { worker, calls } = this.#options;
    return [worker().describe(), calls.describe()].filter(Boolean).join(', ') || 'work on its way';
  }

  /** While somebody waits for an end. */
  async #pump(): Promise<void> {
    if (this.#isPumping) return;
    this.#isPumping = true;
    let quietSince: number | undefined;
    try {
      while (this.#waiters.size > 0 && !this.#isStopped) {
        const outlook = await this.#inTurn(async () => {
          const seen = await this.#outlook();
          if (seen.quiet && seen.nextMs !== null && (this.#options.skips || seen.nextMs <= 0))
            await this.#skip(seen.nextMs);
          return seen;
        });
        if (!outlook.quiet || (outlook.nextMs !== null && this.#options.skips)) quietSince = undefined;
        else {
          quietSince ??= performance.now();
          if (performance.now() - quietSince > STUCK_MS) await this.#giveUp(outlook.nextMs);
        }
        if (!outlook.quiet || quietSince !== undefined) await this.#change();
      }
    } catch (error) {
      for (const waiter of this.#waiters) waiter.fail(error as Error);
    } finally {
      this.#isPumping = false;
      // Somebody may have come in the meantime.
      if (this.#waiters.size > 0 && !this.#isStopped) queueMicrotask(() => void this.#pump());
    }
  }

  async #giveUp(nextMs: number | null): Promise<void> {
    const waiters = [...this.#waiters];
    const why = await this.#options.describe(waiters.map(({ what }) => what));
    const next =
      nextMs === null
        ? 'nothing runs, and nothing is due at any time'
        : `nothing runs before ${Math.round(nextMs)} ms have passed, and this kit's clock is moved by hand: kit.advance(${Math.round(nextMs)})`;
    const error = new KitError('NOTHING_WILL_HAPPEN', `${next}. ${why}`);
    for (const waiter of waiters) {
      this.#waiters.delete(waiter);
      waiter.fail(error);
    }
  }

  async #outlook(): Promise<Outlook> {
    const { sql, clock, engine, worker, slots } = this.#options;
    if (this.#goesOn()) return { quiet: false };
    const before = this.#changes;
    const standing = await readStanding(sql, this.#awaited);
    // Who waits is about to be told.
    if (standing.hasEnded) return { quiet: false };
    const resting = worker().drivers;
    if (standing.hasAdvances || standing.leases > resting) return { quiet: false };
    for (const taskId of standing.readyTaskIds) {
      const { blockers } = await engine.explain('default', taskId).catch(() => ({ blockers: [] }));
      // Nothing that lasts keeps it, or those before it, from being taken: it is about to be.
      const hasFreeSlot = standing.leases < slots;
      if (blockers.every(({ reason }) => PASSING.has(reason) || (reason === 'NO_CAPACITY' && hasFreeSlot)))
        return { quiet: false };
    }
    // Whatever has begun meanwhile was not seen.
    if (this.#changes !== before || this.#goesOn()) return { quiet: false };
    const timers = [standing.nextDueMs, resting > 0 ? clock.nextMs : null].filter((ms) => ms !== null);
    return { quiet: true, nextMs: timers.length === 0 ? null : Math.max(0, Math.min(...timers)) };
  }

  get #awaited(): string[] {
    return [...this.#waiters].map(({ id }) => id);
  }

  /** In this process. */
  #goesOn(): boolean {
    const { clock, worker, calls } = this.#options;
    const activity = worker();
    return (
      calls.isBusy ||
      activity.isBusy ||
      clock.isTurning ||
      // A function that holds a worker and waits for no time waits for something of its own.
      (activity.drivers > 0 && clock.nextMs === null)
    );
  }

  async #nextDueMs(): Promise<number | null> {
    const { sql, clock } = this.#options;
    const { nextDueMs } = await readStanding(sql, []);
    const due = [nextDueMs, clock.nextMs].filter((ms) => ms !== null);
    return due.length === 0 ? null : Math.min(...due);
  }

  async #skip(ms: number): Promise<void> {
    const { sql, clock, engine } = this.#options;
    // What is due already needs no time, only somebody who looks.
    if (ms > 0) clock.skipTo(await skipTime(sql, Math.ceil(ms)));
    await engine.look();
  }

  /** Something has begun or ended here, or it is time to look at what the database says. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#changed = undefined;
        // Together with what else this turn of the event loop ends.
        setImmediate(resolve);
      };
      const timer = setTimeout(done, LOOK_MS);
      this.#changed = done;
    });
  }

  /** One after the other: who looks and who skips must not come between each other. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => {});
    return mine;
  }
}
