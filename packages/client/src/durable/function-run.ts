// Long because it is one state machine: what a function asked for, what its journal says, and which of it is delivered next.

import { type Duration, durationMs } from './duration.ts';
import { JournalOutOfStep, NonDeterminism, StepFailed, WorkflowUsageError } from './errors.ts';
import { askedDelayMs, failureOf, isFinal } from './failure-of.ts';
import {
  type ChildCommand,
  type CommandKind,
  type JournalEntry,
  type JournalFailure,
  type JournalPayload,
  type JournalPort,
  MAX_ENTRIES,
  type NewEntry,
  type TaskCommand,
} from './journal.ts';
import { decodeValue, encodeValue } from './payload.ts';
import { Randomness } from './randomness.ts';

/** What a step's code is handed. */
export interface StepContext {
  /** The same in each try of this step, also after a crash: makes its effect idempotent. */
  readonly stepKey: string;
  /** Aborted when the step's time is over, the run is cancelled, or the lease is lost. */
  readonly signal: AbortSignal;
  /** 1 for the first try. */
  readonly attempt: number;
}

/** When a step that throws is tried again. */
export interface StepRetry {
  /** Tries in all. Default 3. */
  readonly maxAttempts?: number;
  /** Before the second try, ms. Default 1 000. */
  readonly initialDelayMs?: number;
  /** Each further delay is the one before times this. Default 2. */
  readonly factor?: number;
  /** Default 60 000. */
  readonly maxDelayMs?: number;
}

export interface StepOptions {
  readonly retry?: StepRetry;
  /** Of one try, ms. Default: none. */
  readonly timeoutMs?: number;
}

/** Time as a function run needs it. In a test it is a virtual one. */
export interface FunctionClock {
  /** Milliseconds, rising. */
  now(): number;
  /** Calls back after a time; what it gives cancels that. */
  after(delayMs: number, then: () => void): () => void;
  /** Resolves when all that the code does by itself, without waiting for anything, has been done: a turn of the event loop. */
  turn(): Promise<void>;
}

export interface FunctionRunOptions {
  readonly runId: string;
  /** When the run was made, ms since the epoch. */
  readonly startMs: number;
  /** The journal as far as it is known, in any order. */
  readonly entries: readonly JournalEntry[];
  /** As of these entries. */
  readonly wakes: bigint;
  /** The database's clock when they were read; 0 where there are none. */
  readonly nowMs: number;
  /** Where it is kept. Null: nothing is carried out, the code is only compared with its journal. */
  readonly journal: JournalPort | null;
  readonly clock: FunctionClock;
  readonly signal: AbortSignal;
  /** How long code may take that waits for something else than its context while the journal has more for it, ms. Default 1 000. */
  readonly patienceMs?: number;
}

export type FunctionEnd =
  /** `rest`: what the journal still lacks, and must have before or with the end of the task; 1 at most. */
  | {
      readonly kind: 'completed';
      readonly value: unknown;
      readonly rest: readonly NewEntry[];
      readonly seenPosition: number;
    }
  | { readonly kind: 'failed'; readonly error: unknown }
  /** Nothing is left to do but wait. */
  | { readonly kind: 'suspended'; readonly wakes: bigint; readonly dueAtMs: number | null }
  | { readonly kind: 'aborted' }
  /** Without a journal to write to: the code has come to the journal's end, and asks for these. */
  | { readonly kind: 'caught-up'; readonly asks: readonly { number: number; kind: CommandKind; name: string }[] };

interface Command {
  readonly number: number;
  readonly kind: CommandKind;
  readonly name: string;
  readonly afterPosition: number;
  resolve(value: unknown): void;
  reject(error: unknown): void;
  /**
   * `asked`: nothing done yet. `running`: a step's code runs, or waits a little for its next try. `ended`: its outcome is on its way to the
   * journal. `waiting`: in the journal, for something to happen. `done`: delivered.
   */
  state: 'asked' | 'running' | 'ended' | 'waiting' | 'done';
  /** By the database's clock, ms; 0: never. */
  dueAtMs: number;
  attempts: number;
  /** How a step is carried out. */
  readonly step?: { run(context: StepContext): unknown; options: StepOptions };
  /** What is added to the journal for a wait. */
  readonly wait?: Partial<NewEntry>;
}

/** Delays up to this are waited for here; longer ones by the journal, so that no slot is held. */
const SHORT_DELAY_MS = 5_000;
/** A wait that ends so soon is not worth the way to the database and back. */
const LINGER_MS = 200;
/** While steps run, the journal is asked so often what else has happened. */
const POLL_MS = 1_000;
/** No answer takes so long to come that its time differs by this. */
const CLOCK_STEP_MS = 1_000;

/**
 * One go at a durable function: replays its journal, then goes on, until it ends or only waits.
 *
 * Commands are numbered as the code gives them. The journal's outcomes are delivered one at a time in the order of their positions, each
 * after all that the one before set going has come to rest, so that branches that run side by side meet the same order in each replay,
 * and commands the same numbers. Nothing is carried out before all of the journal is delivered.
 *
 * An outcome is delivered when it is in the journal, but for one case: the outcome of a step beside which nothing else is open is delivered
 * at once, for its place and time are known before they are written. Nothing that the code does then takes effect before the journal
 * has it: no step runs, nothing is submitted. Only the function's end goes along with it, in one write.
 */
export class FunctionRun {
  readonly #options: FunctionRunOptions;
  readonly #commands: Command[] = [];
  readonly #known = new Map<number, JournalEntry>();
  /** Resolved and not delivered, by position. */
  #queue: JournalEntry[];
  #queueHead = 0;
  /** Position of the newest that was delivered, and of the newest that is known. */
  #delivered = 0;
  #seen = 0;
  #nowMs: number;
  #wakes: bigint;
  /** The database's clock less this machine's. */
  #clockOffset = 0;
  #isClockKnown = false;
  #toStart: Command[] = [];
  #toAppend: { entry: NewEntry; command: Command }[] = [];
  /** Delivered, and not known to be in the journal. */
  #ahead:
    | { readonly number: number; readonly position: number; readonly endedAtMs: number; isNew: boolean }
    | undefined;
  /** Commands whose outcome the code waits for. */
  #undelivered = 0;
  #appending = false;
  #appendError: unknown;
  readonly #running = new Map<Command, Promise<void>>();
  #waiting = 0;
  #end: FunctionEnd | undefined;
  #poked: (() => void) | undefined;
  #isPoked = false;
  #askNow = false;
  readonly #random: Randomness;
  readonly #stop = new AbortController();
  readonly #replayUntil: number;

  constructor(options: FunctionRunOptions) {
    this.#options = options;
    this.#nowMs = options.startMs;
    this.#wakes = options.wakes;
    this.#random = new Randomness(options.runId);
    if (options.nowMs !== 0) this.#setClock(options.nowMs);
    this.#queue = [];
    for (const entry of options.entries) {
      this.#known.set(entry.number, entry);
      if (entry.position > 0) this.#queue.push(entry);
    }
    this.#queue.sort((a, b) => a.position - b.position);
    this.#seen = this.#queue.at(-1)?.position ?? 0;
    this.#replayUntil = this.#seen;
  }

  /** Aborted when the run is cancelled, the lease lost, or the go is over. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** What the code does now it has done before. */
  get replaying(): boolean {
    return this.#delivered < this.#replayUntil;
  }

  /** Of the newest outcome that the code has seen, ms since the epoch. */
  now(): number {
    return this.#nowMs;
  }

  random(): number {
    return this.#random.random();
  }

  uuid(): string {
    return this.#random.uuid();
  }

  step(name: string, run: (context: StepContext) => unknown, options: StepOptions = {}): Promise<unknown> {
    if (typeof run !== 'function')
      return Promise.reject(
        new WorkflowUsageError(`step ${JSON.stringify(name)} needs a function: ctx.step(name, fn)`),
      );
    return this.#command('step', name, { step: { run, options } });
  }

  async sleep(duration: Duration): Promise<void> {
    await this.#command('sleep', 'sleep', { wait: { dueInMs: durationMs(duration) } });
  }

  async sleepUntil(atMs: number): Promise<void> {
    if (!Number.isFinite(atMs)) throw new WorkflowUsageError('sleepUntil needs a point in time');
    await this.#command('sleep', 'sleep', { wait: { dueAtMs: Math.max(1, Math.round(atMs)) } });
  }

  waitFor(name: string, timeout?: Duration): Promise<unknown> {
    return this.#command('signal', name, {
      wait: timeout === undefined ? {} : { dueInMs: durationMs(timeout) },
    });
  }

  task(name: string, task: TaskCommand): Promise<unknown> {
    return this.#command('task', name, { wait: { task } });
  }

  child(name: string, child: ChildCommand): Promise<unknown> {
    return this.#command('child', name, { wait: { child } });
  }

  /** Runs the function's code. Never rejects. */
  async run(body: () => unknown): Promise<FunctionEnd> {
    const { signal } = this.#options;
    const onAbort = () => {
      this.#stop.abort(signal.reason);
      this.#poke();
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    try {
      this.#call(body);
      await this.#options.clock.turn();
      const end = await this.#drive();
      this.#stop.abort(new Error('the function is over'));
      // Code of steps that nobody waits for any more is told, and waited for: it must not run beside the next go.
      if (end.kind !== 'completed' && end.kind !== 'failed') await Promise.all(this.#running.values());
      return end;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #call(body: () => unknown): void {
    new Promise((resolve) => resolve(body())).then(
      (value) => this.#finish({ kind: 'completed', value, rest: [], seenPosition: 0 }),
      (error) => this.#finish({ kind: 'failed', error }),
    );
  }

  async #drive(): Promise<FunctionEnd> {
    const { journal, clock } = this.#options;
    for (;;) {
      if (this.#options.signal.aborted) return { kind: 'aborted' };
      if (this.#end !== undefined) {
        const end = await this.#settledEnd(this.#end);
        if (end !== undefined) return end;
        continue;
      }
      const next = this.#queue[this.#queueHead];
      if (next !== undefined) {
        const command = this.#commands[next.number - 1];
        if (command === undefined) {
          if (await this.#pause(this.#options.patienceMs ?? 1_000)) continue;
          return { kind: 'failed', error: this.#neverAsked(next) };
        }
        this.#queueHead++;
        if (this.#queueHead === this.#queue.length) {
          this.#queue = [];
          this.#queueHead = 0;
        }
        this.#deliver(command, next);
        await clock.turn();
        continue;
      }
      if (journal === null) {
        if (this.#toStart.length === 0 && this.#waiting === 0 && (await this.#pause(this.#options.patienceMs ?? 1_000)))
          continue;
        const asks = this.#commands.filter((c) => c.state !== 'done');
        return { kind: 'caught-up', asks: asks.map(({ number, kind, name }) => ({ number, kind, name })) };
      }
      if (this.#appendError !== undefined) {
        return this.#options.signal.aborted ? { kind: 'aborted' } : { kind: 'failed', error: this.#appendError };
      }
      if (this.#ahead?.isNew) {
        // The code goes on first: it may end now, or ask for what is written together with this.
        this.#ahead.isNew = false;
        await clock.turn();
        continue;
      }
      for (const command of this.#toStart.splice(0)) {
        if (this.#ahead !== undefined && command.step !== undefined) this.#toStart.push(command);
        else this.#start(command);
      }
      if (!this.#appending && (this.#toAppend.length > 0 || this.#askNow)) void this.#append(journal);
      const isBusy = this.#appending || this.#running.size > 0;
      if (isBusy) {
        const asks = this.#waiting > 0 && !this.#appending;
        if (!(await this.#pause(asks ? POLL_MS : undefined))) {
          this.#askNow = true;
          this.#comeDue();
        }
      } else if (this.#waiting === 0) {
        // The code waits for something of its own.
        await this.#pause(undefined);
      } else {
        const dueAtMs = this.#nextDueMs();
        const dueInMs = dueAtMs === null ? Number.POSITIVE_INFINITY : dueAtMs - this.#clockOffset - clock.now();
        if (dueInMs > LINGER_MS) return { kind: 'suspended', wakes: this.#wakes, dueAtMs };
        if (!(await this.#pause(Math.max(1, dueInMs)))) this.#comeDue();
      }
    }
  }

  #command(kind: CommandKind, name: string, what: Pick<Command, 'step' | 'wait'>): Promise<unknown> {
    if (typeof name !== 'string' || name === '' || name.length > 200)
      return Promise.reject(new WorkflowUsageError(`a ${kind} needs a name of 1 to 200 characters`));
    // Postgres keeps no NUL, UTF-8 no half of a surrogate pair; other control characters only confuse who reads them.
    if (/[\u0000-\u001f\u007f]/.test(name) || !name.isWellFormed())
      return Promise.reject(
        new WorkflowUsageError(`the name ${JSON.stringify(name)} contains a control character or half a character`),
      );
    const number = this.#commands.length + 1;
    if (number > MAX_ENTRIES)
      return Promise.reject(
        new WorkflowUsageError(`a run has at most ${MAX_ENTRIES} steps and waits; go on in a child: ctx.child`),
      );
    let command!: Command;
    const promise = new Promise<unknown>((resolve, reject) => {
      command = {
        number,
        kind,
        name,
        afterPosition: this.#delivered,
        resolve,
        reject,
        state: 'asked',
        dueAtMs: 0,
        attempts: 0,
        ...what,
      };
    });
    // What nobody awaits (the loser of a race) must not end the process.
    promise.catch(() => {});
    if (this.#end !== undefined || this.#options.signal.aborted) return promise;
    const entry = this.#known.get(number);
    if (entry !== undefined && (entry.kind !== kind || entry.name !== name)) {
      this.#finish({ kind: 'failed', error: differs(command, entry) });
      return promise;
    }
    this.#commands.push(command);
    this.#undelivered++;
    if (entry === undefined || entry.unborn) this.#toStart.push(command);
    else if (entry.position === 0) {
      command.attempts = entry.attempts;
      this.#wait(command, entry.dueAtMs);
    } else command.state = 'ended';
    this.#poke();
    return promise;
  }

  #deliver(
    command: Command,
    entry: Pick<JournalEntry, 'position' | 'endedAtMs' | 'output' | 'failure' | 'attempts'>,
  ): void {
    if (command.state === 'waiting') this.#waiting--;
    if (command.state === 'done') return;
    command.state = 'done';
    this.#undelivered--;
    this.#delivered = entry.position;
    this.#nowMs = Math.max(this.#nowMs, entry.endedAtMs);
    if (entry.failure !== undefined) {
      const { number, kind, name } = command;
      command.reject(new StepFailed({ number, kind, name, attempts: entry.attempts || 1 }, entry.failure));
      return;
    }
    try {
      command.resolve(decodeValue(entry.output));
    } catch (error) {
      command.reject(error);
    }
  }

  #wait(command: Command, dueAtMs: number): void {
    if (command.state !== 'waiting') this.#waiting++;
    command.state = 'waiting';
    command.dueAtMs = dueAtMs;
  }

  #start(command: Command): void {
    if (command.step !== undefined) {
      this.#attempt(command);
      return;
    }
    command.state = 'ended';
    this.#add(command, { ended: false, ...command.wait });
  }

  #add(command: Command, entry: Partial<NewEntry> & { ended: boolean }): void {
    const { number, kind, name, afterPosition } = command;
    this.#toAppend.push({ command, entry: { number, kind, name, afterPosition, ...entry } });
    this.#poke();
  }

  /** One try of a step, and the next ones that follow soon. */
  #attempt(command: Command): void {
    command.state = 'running';
    const tries = this.#tryUntilEnd(command).finally(() => {
      this.#running.delete(command);
      this.#poke();
    });
    this.#running.set(command, tries);
  }

  async #tryUntilEnd(command: Command): Promise<void> {
    const { run, options } = command.step!;
    const { maxAttempts = 3, initialDelayMs = 1_000, factor = 2, maxDelayMs = 60_000 } = options.retry ?? {};
    while (!this.#stop.signal.aborted) {
      const attempt = ++command.attempts;
      let failure: JournalFailure;
      let thrown: unknown;
      try {
        const value = await this.#try(command, attempt, run, options.timeoutMs);
        if (this.#stop.signal.aborted) return;
        command.state = 'ended';
        this.#stepEnds(command, { output: encodeStep(value, command.name), attempts: attempt });
        return;
      } catch (error) {
        thrown = error;
        failure = failureOf(error);
      }
      if (this.#stop.signal.aborted) return;
      if (attempt >= maxAttempts || isFinal(thrown)) {
        command.state = 'ended';
        this.#stepEnds(command, { failure, attempts: attempt });
        return;
      }
      const delayMs = askedDelayMs(thrown) ?? Math.min(initialDelayMs * factor ** (attempt - 1), maxDelayMs);
      if (delayMs > SHORT_DELAY_MS) {
        command.state = 'ended';
        this.#add(command, { ended: false, failure, attempts: attempt, dueInMs: Math.round(delayMs) });
        return;
      }
      await this.#sleepHere(delayMs);
    }
  }

  /** Its outcome goes to the journal; where nothing can come between, the code has it at once. */
  #stepEnds(command: Command, outcome: { output?: JournalPayload; failure?: JournalFailure; attempts: number }): void {
    const isAlone =
      this.#undelivered === 1 && this.#ahead === undefined && !this.#appending && this.#toAppend.length === 0;
    if (!isAlone || !this.#isClockKnown || !this.#options.journal?.keepsTimes) {
      this.#add(command, { ended: true, ...outcome });
      return;
    }
    const position = this.#seen + 1;
    const endedAtMs = Math.max(this.#nowMs, Math.round(this.#options.clock.now() + this.#clockOffset));
    this.#ahead = { number: command.number, position, endedAtMs, isNew: true };
    this.#add(command, { ended: true, endedAtMs, ...outcome });
    this.#deliver(command, { position, endedAtMs, ...outcome });
  }

  /** Undefined: not yet. What the code has seen is in the journal when it ends, or goes there with its success. */
  async #settledEnd(ended: FunctionEnd): Promise<FunctionEnd | undefined> {
    const end = this.#checkedEnd(ended);
    const seenPosition = this.#seen;
    if (this.#ahead === undefined) return end.kind === 'completed' ? { ...end, seenPosition } : end;
    if (this.#appendError !== undefined) return { kind: 'failed', error: this.#appendError };
    if (!this.#appending) {
      const rest = this.#toAppend.map(({ entry }) => entry);
      if (end.kind === 'completed') return { ...end, rest, seenPosition };
      void this.#append(this.#options.journal!);
    }
    await this.#pause(undefined);
    return undefined;
  }

  async #try(
    command: Command,
    attempt: number,
    run: (context: StepContext) => unknown,
    timeoutMs: number | undefined,
  ): Promise<unknown> {
    const stepKey = `${this.#options.runId}/${command.number}`;
    if (timeoutMs === undefined) return run({ stepKey, attempt, signal: this.#stop.signal });
    const limit = new AbortController();
    const { promise: late, reject } = Promise.withResolvers<never>();
    late.catch(() => {});
    const cancel = this.#options.clock.after(timeoutMs, () => {
      const error = new Error(`the step did not end within ${timeoutMs} ms`);
      error.name = 'StepTimeout';
      limit.abort(error);
      reject(error);
    });
    try {
      const signal = AbortSignal.any([limit.signal, this.#stop.signal]);
      return await Promise.race([run({ stepKey, attempt, signal }), late]);
    } finally {
      cancel();
    }
  }

  #sleepHere(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        cancel();
        this.#stop.signal.removeEventListener('abort', done);
        resolve();
      };
      const cancel = this.#options.clock.after(delayMs, done);
      this.#stop.signal.addEventListener('abort', done, { once: true });
      if (this.#stop.signal.aborted) done();
    });
  }

  async #append(journal: JournalPort): Promise<void> {
    const batch = this.#toAppend.splice(0);
    this.#appending = true;
    this.#askNow = false;
    try {
      const answer = await journal.append(
        batch.map(({ entry }) => entry),
        this.#seen,
      );
      if (answer.wakes > this.#wakes) this.#wakes = answer.wakes;
      this.#setClock(answer.nowMs);
      for (const entry of answer.entries) this.#take(entry);
      this.#waitForRest(batch, answer.nowMs);
      const { number } = this.#ahead ?? {};
      if (batch.some(({ entry }) => entry.number === number)) throw new JournalOutOfStep(number!);
    } catch (error) {
      this.#appendError = error ?? new Error('the journal refused an entry');
    } finally {
      this.#appending = false;
      this.#poke();
    }
  }

  #take(entry: JournalEntry): void {
    const command = this.#commands[entry.number - 1];
    if (entry.position === 0) {
      if (command !== undefined && command.state !== 'done') this.#wait(command, entry.dueAtMs);
      return;
    }
    if (entry.position <= this.#seen) return;
    this.#seen = entry.position;
    if (entry.number !== this.#ahead?.number) {
      this.#queue.push(entry);
      return;
    }
    const { number, position, endedAtMs } = this.#ahead;
    if (entry.position !== position || entry.endedAtMs !== endedAtMs) throw new JournalOutOfStep(number);
    this.#ahead = undefined;
  }

  /** What was sent and is not told of waits: masters of the version before leave out what an earlier call had added. */
  #waitForRest(batch: readonly { entry: NewEntry; command: Command }[], nowMs: number): void {
    const isQueued = new Set(this.#queue.map(({ number }) => number));
    for (const { entry, command } of batch) {
      if (entry.ended || command.state !== 'ended' || isQueued.has(command.number)) continue;
      this.#wait(command, entry.dueAtMs ?? (entry.dueInMs === undefined ? 0 : nowMs + entry.dueInMs));
    }
  }

  /** A time that is told is older than it says by its way here: of several offsets the largest is nearest to the truth. */
  #setClock(nowMs: number): void {
    const offset = nowMs - this.#options.clock.now();
    // Much smaller: the database's clock was set back.
    const isSame = this.#isClockKnown && Math.abs(offset - this.#clockOffset) < CLOCK_STEP_MS;
    this.#clockOffset = isSame ? Math.max(this.#clockOffset, offset) : offset;
    this.#isClockKnown = true;
  }

  /** The earliest time at which a wait ends by itself. */
  #nextDueMs(): number | null {
    let due = Number.POSITIVE_INFINITY;
    for (const { state, dueAtMs } of this.#commands)
      if (state === 'waiting' && dueAtMs > 0) due = Math.min(due, dueAtMs);
    return due === Number.POSITIVE_INFINITY ? null : due;
  }

  /** Some wait should be over: steps are tried again, the rest is for the journal to say. */
  #comeDue(): void {
    const nowMs = this.#options.clock.now() + this.#clockOffset;
    for (const command of this.#commands) {
      if (command.state !== 'waiting' || command.dueAtMs === 0 || command.dueAtMs > nowMs + 1) continue;
      if (command.step === undefined) this.#askNow = true;
      else {
        this.#waiting--;
        this.#attempt(command);
      }
    }
  }

  /** Resolves with true when something has happened, with false after the time. */
  #pause(limitMs: number | undefined): Promise<boolean> {
    if (this.#isPoked) {
      this.#isPoked = false;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const cancel = limitMs === undefined ? undefined : this.#options.clock.after(limitMs, () => end(false));
      const end = (happened: boolean) => {
        cancel?.();
        this.#poked = undefined;
        this.#isPoked = false;
        resolve(happened);
      };
      this.#poked = () => end(true);
    });
  }

  #poke(): void {
    if (this.#poked === undefined) this.#isPoked = true;
    else this.#poked();
  }

  #finish(end: FunctionEnd): void {
    this.#end ??= end;
    this.#poke();
  }

  /** An end that leaves entries which no command asked for is none: the code has lost steps. */
  #checkedEnd(end: FunctionEnd): FunctionEnd {
    if (end.kind === 'failed' && end.error instanceof NonDeterminism) return end;
    let left: JournalEntry | undefined;
    for (const entry of this.#known.values())
      if (entry.number > this.#commands.length && (left === undefined || entry.number < left.number)) left = entry;
    if (left === undefined) return end;
    const how = end.kind === 'failed' ? `fails before (${failureOf(end.error).message})` : 'ends before';
    return {
      kind: 'failed',
      error: new NonDeterminism(
        left.number,
        `${left.kind} ${left.number} is \`${left.name}\` in the journal, and the code ${how}: the workflow was changed under this run, or is not deterministic`,
      ),
    };
  }

  #neverAsked(entry: JournalEntry): NonDeterminism {
    return new NonDeterminism(
      entry.number,
      `${entry.kind} ${entry.number} is \`${entry.name}\` in the journal, and the code does not come to it: the workflow was changed under this run, or awaits something else than its context`,
    );
  }
}

function encodeStep(value: unknown, name: string): JournalPayload {
  return encodeValue(value, `the output of step \`${name}\``);
}

function differs(command: Command, entry: JournalEntry): NonDeterminism {
  const what = (c: { kind: CommandKind; name: string }) => (c.kind === 'sleep' ? 'a sleep' : `${c.kind} \`${c.name}\``);
  return new NonDeterminism(
    entry.number,
    `step ${entry.number} is ${what(entry)} in the journal, ${what(command)} in the code: the workflow was changed under this run, or is not deterministic. Run it on the code it began with, or give the changed code another version`,
  );
}
