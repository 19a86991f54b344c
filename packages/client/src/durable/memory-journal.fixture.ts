import type { FunctionClock } from './function-run.ts';
import type { JournalAnswer, JournalEntry, JournalPort, NewEntry } from './journal.ts';

/** A virtual clock: time passes when nothing else can happen. */
export class VirtualClock implements FunctionClock {
  #now = 1_000_000;
  #timers: { at: number; then: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(delayMs: number, then: () => void): () => void {
    const timer = { at: this.#now + delayMs, then };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Jumps to the next timer. False: there is none. */
  advance(toMs = Number.POSITIVE_INFINITY): boolean {
    const next = Math.min(...this.#timers.map((each) => each.at));
    if (next > toMs || next === Number.POSITIVE_INFINITY) return false;
    this.#now = Math.max(this.#now, next);
    const due = this.#timers.filter((each) => each.at <= this.#now);
    this.#timers = this.#timers.filter((each) => each.at > this.#now);
    for (const { then } of due) then();
    return true;
  }

  passTo(ms: number): void {
    while (this.advance(ms));
    this.#now = Math.max(this.#now, ms);
  }
}

type Mutable = { -readonly [K in keyof JournalEntry]: JournalEntry[K] };

/** A journal in memory that does what the store's does. Tasks and children end by themselves when `work` says so. */
export class MemoryJournal implements JournalPort {
  readonly entries: Mutable[] = [];
  readonly signals: { name: string; payload: string; taken: boolean }[] = [];
  wakes = 0n;
  readonly #clock: VirtualClock;
  readonly #taskDone = new Set<string>();
  /** Called around each append, with its number; may throw, or never come back, for a crash. */
  before: () => void = () => {};
  after: () => void = () => {};
  appends = 0;
  keepsTimes = true;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  async append(entries: readonly NewEntry[], seen: number): Promise<JournalAnswer> {
    await Promise.resolve();
    this.appends++;
    this.before();
    for (const entry of entries) this.#add(entry);
    const answer = this.load(seen, entries);
    this.after();
    return answer;
  }

  load(seen = 0, added: readonly NewEntry[] = []): JournalAnswer {
    this.#resolve();
    const numbers = new Set(added.map((e) => e.number));
    const entries = this.entries
      .filter((e) => e.position > seen || (e.position === 0 && numbers.has(e.number)))
      .sort((a, b) => a.position - b.position)
      .map((e) => ({ ...e }));
    return { entries, wakes: this.wakes, nowMs: this.#clock.now() };
  }

  signal(name: string, value: unknown): void {
    this.signals.push({ name, payload: JSON.stringify(value), taken: false });
    this.wakes++;
  }

  /** Ends every task that is open. */
  endTasks(): boolean {
    const open = this.entries.filter((e) => e.kind === 'task' && e.position === 0 && !this.#taskDone.has(e.refId));
    for (const each of open) this.#taskDone.add(each.refId);
    if (open.length > 0) this.wakes++;
    return open.length > 0;
  }

  #add(entry: NewEntry): void {
    const known = this.entries.find((e) => e.number === entry.number);
    if (known && !(known.kind === 'step' && known.position === 0)) return;
    const next: Mutable = {
      number: entry.number,
      kind: entry.kind,
      name: entry.name,
      position: entry.ended ? this.#nextPosition() : 0,
      endedAtMs: entry.ended ? (entry.endedAtMs ?? this.#clock.now()) : 0,
      dueAtMs: entry.ended
        ? 0
        : (entry.dueAtMs ?? (entry.dueInMs === undefined ? 0 : this.#clock.now() + entry.dueInMs)),
      refId: entry.kind === 'task' ? `task-${entry.number}` : '',
      output: entry.output,
      failure: entry.ended ? entry.failure : undefined,
      attempts: entry.attempts ?? 0,
    };
    if (known) Object.assign(known, next);
    else this.entries.push(next);
  }

  #nextPosition(): number {
    return Math.max(0, ...this.entries.map((e) => e.position)) + 1;
  }

  #resolve(): void {
    const now = this.#clock.now();
    for (const entry of [...this.entries].sort((a, b) => a.number - b.number)) {
      if (entry.position !== 0 || entry.kind === 'step') continue;
      let output: string | undefined;
      if (entry.kind === 'signal') {
        const signal = this.signals.find((s) => s.name === entry.name && !s.taken);
        if (signal) {
          signal.taken = true;
          output = signal.payload;
        } else if (entry.dueAtMs === 0 || entry.dueAtMs > now) continue;
      } else if (entry.kind === 'task') {
        if (!this.#taskDone.has(entry.refId)) continue;
        output = JSON.stringify(`done ${entry.name}`);
      } else if (entry.dueAtMs > now) continue;
      entry.position = this.#nextPosition();
      entry.endedAtMs = now;
      if (output !== undefined) entry.output = { encoding: 1, bytes: new TextEncoder().encode(output) };
    }
  }
}
