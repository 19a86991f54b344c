import type { Failure } from '@baton/domain';
import type { Grant, HeldByWorker } from '@baton/store';
import type { Effect, WorkerCall } from '@baton/testkit/history';
import type { Machine, Settled, Steps, Timer, Wait } from './kernel.ts';
import { until } from './kernel.ts';
import type { Abandon, Call } from './network.ts';
import { BEGINNING_MS } from './postgres.ts';
import {
  type Act,
  type ExchangeInput,
  type MasterApi,
  type Orders,
  type Outcome,
  type Report,
  SAID,
  SESSION_LOST,
} from './protocol.ts';
import type { Recorded } from './recorder.ts';
import { SETTINGS } from './settings.ts';
import { outputOf, textOf, type World } from './world.ts';

/** A way to some master. */
export type Connection = <T>(
  handle: (master: MasterApi, call: Call) => Steps<T>,
  timeoutMs: number,
  abandon?: Abandon,
) => Wait<Settled<T>>;

export interface WorkerOptions {
  name: string;
  slots: number;
  laneIds: number[];
  /** Its tasks run in processes of their own, which go on when the worker is stopped. */
  ownProcesses: boolean;
}

/** The process whose session it is. */
export interface WorkerHome {
  readonly world: World;
  readonly options: WorkerOptions;
  readonly machine: Machine;
  readonly now: number;
  connection(): Connection;
  drain(graceMs: number): void;
  kill(): void;
}

type Phase = 'queued' | 'running' | 'finished' | 'settled';
type StopKind = 'cancel' | 'timeout' | 'hand-back' | 'lost';

interface Attempt {
  readonly grant: Grant;
  readonly fingerprint: bigint;
  phase: Phase;
  stop: StopKind | null;
  startedAtMs: number;
  /** When the worker gives up waiting for what it stopped, or stops what takes too long. */
  timer: Timer | null;
  code: { end(outcome: Outcome | null): void; alive: boolean } | null;
}

/** The worker lets go so long before its lease is over. */
const MARGIN_MS = Math.min(1_000, SETTINGS.leaseTtlMs * 0.1);

/** One life of a worker in the eyes of the masters: what the runtime's session, exchange, heartbeat and work do together. */
export class WorkerSession {
  readonly id: string;
  /** Whether it ended in silence; comes once, unless it drains. */
  readonly lost: Wait<boolean>;
  readonly #process: WorkerHome;
  readonly #world: World;
  readonly #machine: Machine;
  readonly #exchange: Connection;
  readonly #heartbeat: Connection;
  readonly #held = new Map<string, Attempt>();
  readonly #queue: Attempt[] = [];
  #over = false;
  #end: ((silent: boolean) => void) | null = null;
  #ended: boolean | null = null;
  #running = 0;
  #xor = 0n;
  /** Codes that have not ended, those of lost leases included. */
  #codes = 0;
  #accepting = true;
  #draining = false;

  #outbox: Report[] = [];
  #sending: Report[] = [];
  #poll: { void: boolean; offers: boolean; abandon: Abandon } | null = null;
  #pushing = false;
  #pausing = false;
  #kicked = false;
  #offerNumber = 0;
  #failures = 0;

  #beats = 0;
  #beating = false;
  #beatFailures = 0;
  #renewedMs: number;
  /** As told with the last renewal. */
  #leaseTtlMs: number = SETTINGS.leaseTtlMs;
  #beatTimer: Timer | null = null;
  #expiryTimer: Timer | null = null;
  #toSend: HeldByWorker[] | null = null;
  /** When all that is held was last listed for a master. */
  #listedMs = Number.NEGATIVE_INFINITY;

  constructor(process: WorkerHome, id: string, registeredAtMs: number) {
    this.id = id;
    this.#process = process;
    this.#world = process.world;
    this.#machine = process.machine;
    this.#exchange = process.connection();
    this.#heartbeat = process.connection();
    this.#renewedMs = registeredAtMs;
    this.lost = (resume) => {
      if (this.#ended !== null) resume(this.#ended);
      else this.#end = resume;
    };
    this.#armExpiry();
    this.#beatAfter(SETTINGS.heartbeatIntervalMs * (0.5 + this.#world.random.next() / 2));
    this.#kick();
  }

  // exchange ---------------------------------------------------------------------------------------------------------------

  get #wanted(): number {
    return this.#accepting ? Math.max(0, this.#process.options.slots - this.#running - this.#queue.length) : 0;
  }

  #kick(): void {
    if (this.#kicked || this.#over) return;
    this.#kicked = true;
    this.#machine.after(0, () => {
      this.#kicked = false;
      this.#next();
    });
  }

  #next(): void {
    if (this.#over || this.#pushing || this.#pausing) return;
    const takesBack = !this.#accepting && this.#poll?.offers === true;
    if (this.#outbox.length > 0 || takesBack) this.#machine.start(this.#push(takesBack));
    else if (this.#poll === null || (this.#wanted > 0 && !this.#poll.offers)) {
      this.#endPoll();
      this.#machine.start(this.#longPoll());
    }
  }

  #endPoll(): void {
    if (!this.#poll) return;
    this.#poll.void = true;
    this.#poll.abandon.now?.();
    this.#poll = null;
  }

  #input(results: Report[], wanted: number, offers: boolean, waitMs: number): ExchangeInput {
    const offer = offers ? { number: ++this.#offerNumber, free: wanted } : null;
    return { sessionId: this.id, results, offer, waitMs };
  }

  *#push(takesBack: boolean): Steps<void> {
    this.#pushing = true;
    this.#sending = this.#outbox;
    this.#outbox = [];
    const wanted = this.#wanted;
    const input = this.#input(this.#sending, wanted, wanted > 0 || takesBack || this.#poll?.offers === true, 0);
    if (this.#poll?.offers) this.#poll = null;
    const sentMs = this.#process.now;
    const end = yield* this.#hand(input, SETTINGS.answerTimeoutMs);
    this.#pushing = false;
    if (this.#over) return;
    const sent = this.#sending;
    this.#sending = [];
    if (!end.ok) {
      this.#outbox = [...sent, ...this.#outbox];
      this.#failed(end.reason);
      return;
    }
    this.#settle(sent);
    this.#take(end.value, sentMs);
  }

  *#longPoll(): Steps<void> {
    const wanted = this.#wanted;
    const poll = { void: false, offers: wanted > 0, abandon: {} };
    this.#poll = poll;
    const input = this.#input([], wanted, poll.offers, SETTINGS.longPollMs);
    const sentMs = this.#process.now;
    const timeoutMs = SETTINGS.longPollMs + SETTINGS.answerTimeoutMs;
    const end = yield* this.#hand(input, timeoutMs, poll.abandon);
    if (this.#poll === poll) this.#poll = null;
    if (this.#over) return;
    if (end.ok) this.#take(end.value, sentMs);
    else if (!poll.void) this.#failed(end.reason);
  }

  /** One exchange, and what it says of each result written down. */
  *#hand(
    input: ExchangeInput,
    timeoutMs: number,
    abandon?: Abandon,
  ): Steps<Settled<{ refused: Report[]; grants: Grant[]; orders: Orders }>> {
    const invokedAtMs = BEGINNING_MS + this.#process.now;
    const end: Settled<{ refused: Report[]; grants: Grant[]; orders: Orders }> = yield* until(
      this.#exchange((master, call) => master.exchange(input, call), timeoutMs, abandon),
    );
    for (const result of input.results) {
      const reported = SAID[result.outcome.type];
      const refused = end.ok && end.value.refused.some((r) => r.taskId === result.taskId && r.epoch === result.epoch);
      const lost = refused || (!end.ok && end.reason === SESSION_LOST);
      const call: Recorded<WorkerCall> = {
        type: 'complete',
        by: this.#machine.name,
        sessionId: this.id,
        taskId: result.taskId,
        epoch: result.epoch,
        reported,
        invokedAtMs,
        answeredAtMs: BEGINNING_MS + this.#process.now,
        outcome: lost ? 'fail' : end.ok ? 'ok' : 'info',
        ...(refused ? { reason: 'LEASE_LOST' } : lost ? { reason: SESSION_LOST } : {}),
      };
      this.#world.recorder.calls.push(call);
    }
    return end;
  }

  #take({ grants, orders }: { grants: Grant[]; orders: Orders }, sentMs: number): void {
    this.#failures = 0;
    // It may have stood still, and this came before its timer.
    if (this.#letsGoAtMs <= this.#process.now) this.#lose(true);
    if (this.#over) return;
    this.#obey(orders);
    // A master was told since that they are not held, and may have given them to others.
    if (grants.length > 0)
      this.#trace(
        `is given ${grants.map((g) => `${g.taskId}.${g.epoch}`)} by the answer to a call of ${sentMs.toFixed(1)}`,
      );
    const isLate = sentMs < this.#listedMs - SETTINGS.heartbeatIntervalMs && !this.#world.defects.has('late answers');
    for (const grant of grants)
      if (!isLate) this.#accept(grant);
      // At no cost, if it is still there to be handed back.
      else if (!this.#held.has(grant.taskId))
        this.#outbox.push({ taskId: grant.taskId, epoch: grant.epoch, outcome: { type: 'returned' }, ranUs: 0 });
    if (!this.#accepting) this.#handBackQueued();
    this.#pump();
    this.#kick();
  }

  #failed(reason: string): void {
    if (reason === SESSION_LOST) {
      this.#lose(false);
      return;
    }
    if (this.#pausing) return;
    this.#pausing = true;
    const delayMs = this.#world.random.next() * Math.min(2_000, 100 * 2 ** Math.min(this.#failures++, 10));
    this.#machine.after(delayMs, () => this.#retryNow());
  }

  #retryNow(): void {
    this.#pausing = false;
    this.#kick();
  }

  #trace(what: string): void {
    const { recorder, kernel } = this.#world;
    recorder.trace?.(BEGINNING_MS + kernel.nowMs, `${this.#machine.name} (${this.id}) ${what}`);
  }

  #obey(orders: Orders): void {
    for (const { taskId, epoch } of orders.cancels) {
      const attempt = this.#held.get(taskId);
      if (attempt?.grant.epoch === epoch && attempt.phase !== 'finished') this.#stop(attempt, 'cancel');
    }
    if (orders.shutdown) this.#process.drain(0);
    else if (orders.drain) this.#process.drain(SETTINGS.drainGraceMs);
  }

  // work -------------------------------------------------------------------------------------------------------------------

  #accept(grant: Grant): void {
    const known = this.#held.get(grant.taskId);
    if (known) {
      if (known.grant.epoch >= grant.epoch) return;
      this.#drop(known, true);
    }
    const fingerprint = BigInt(grant.taskId) ^ (BigInt(grant.epoch) << 40n);
    const attempt: Attempt = {
      grant,
      fingerprint,
      phase: 'queued',
      stop: null,
      startedAtMs: 0,
      timer: null,
      code: null,
    };
    this.#held.set(grant.taskId, attempt);
    this.#xor ^= fingerprint;
    this.#queue.push(attempt);
  }

  #pump(): void {
    while (this.#running < this.#process.options.slots && this.#queue.length > 0) this.#start(this.#queue.shift()!);
  }

  #start(attempt: Attempt): void {
    const { taskId, attempt: number, startToCloseMs } = attempt.grant;
    const { acts } = this.#world.acts.get(taskId)!;
    const act = acts[Math.min(number, acts.length) - 1]!;
    attempt.phase = 'running';
    attempt.startedAtMs = this.#process.now;
    this.#running++;
    attempt.timer = this.#machine.after(startToCloseMs, () => this.#stop(attempt, 'timeout'));
    attempt.code = this.#run(attempt, act);
  }

  /** The code of a task: in a process of its own it goes on while the worker is stopped, and dies soon after the worker. */
  #run(attempt: Attempt, act: Act): { end(outcome: Outcome | null): void; alive: boolean } {
    const { kernel, random, recorder } = this.#world;
    const { taskId, epoch } = attempt.grant;
    const effect: Recorded<Effect> = {
      taskId,
      epoch,
      sessionId: this.id,
      startedAtMs: BEGINNING_MS + kernel.nowMs,
      endedAtMs: null,
    };
    recorder.effects.push(effect);
    recorder.machines.push(this.#machine);
    recorder.trace?.(BEGINNING_MS + kernel.nowMs, `code of ${taskId}, epoch ${epoch}, begins on ${this.#machine.name}`);
    this.#codes++;
    const code = {
      alive: true,
      end: (outcome: Outcome | null) => {
        if (!code.alive) return;
        code.alive = false;
        effect.endedAtMs = BEGINNING_MS + kernel.nowMs;
        if (outcome?.type === 'success') effect.outputSha256 = textOf(outcome.output);
        recorder.trace?.(
          BEGINNING_MS + kernel.nowMs,
          `code of ${taskId}, epoch ${epoch}, ends on ${this.#machine.name}: ${outcome?.type ?? 'killed'}`,
        );
        this.#machine.onDeath.delete(onDeath);
        this.#machine.do(() => {
          this.#codes--;
          this.#finish(attempt, outcome);
        });
      },
    };
    const onDeath = () => void kernel.at(kernel.nowMs + random.next() * 50, () => code.end(null));
    this.#machine.onDeath.add(onDeath);
    const ends = () => {
      if (act.does === 'kill') this.#process.kill();
      code.end(this.#outcomeOf(attempt, act));
    };
    if (act.does === 'hang') return code;
    if (this.#process.options.ownProcesses) kernel.at(kernel.nowMs + act.takesMs, ends);
    else this.#machine.after(act.takesMs, ends);
    return code;
  }

  #outcomeOf(attempt: Attempt, act: Act): Outcome {
    const { taskId, epoch } = attempt.grant;
    if (act.does !== 'fail') return { type: 'success', output: outputOf(`${taskId} ${epoch} ${this.id}`) };
    const failure: Failure = { type: act.failure, message: 'so it was drawn', nonRetryable: act.nonRetryable };
    if (act.retryAfterMs !== null) failure.retryAfterMs = act.retryAfterMs;
    return { type: 'failure', failure };
  }

  /** Asks an attempt to end; what has not been started ends at once. */
  #stop(attempt: Attempt, kind: StopKind): void {
    if (attempt.phase === 'queued') {
      this.#queue.splice(this.#queue.indexOf(attempt), 1);
      this.#report(attempt, kind === 'cancel' ? { type: 'cancelled' } : { type: 'returned' }, 0);
      return;
    }
    if (attempt.phase !== 'running' || attempt.stop !== null) return;
    attempt.stop = kind;
    this.#killCode(attempt);
  }

  #killCode(attempt: Attempt): void {
    const { kernel, random } = this.#world;
    const { code } = attempt;
    kernel.at(kernel.nowMs + random.next() * 50, () => code?.end(null));
  }

  #finish(attempt: Attempt, outcome: Outcome | null): void {
    if (attempt.phase !== 'running') return;
    if (attempt.timer) attempt.timer.act = null;
    const ranMs = this.#process.now - attempt.startedAtMs;
    this.#running--;
    let ending: Outcome = outcome ?? { type: 'returned' };
    if (attempt.stop === 'timeout' || (attempt.stop === null && ranMs >= attempt.grant.startToCloseMs))
      ending = { type: 'failure', failure: { type: 'TASK_TIMEOUT', message: 'did not end in time' } };
    else if (ending.type !== 'success' && attempt.stop === 'cancel') ending = { type: 'cancelled' };
    else if (ending.type !== 'success' && attempt.stop === 'hand-back') ending = { type: 'returned' };
    this.#report(attempt, ending, ranMs);
    this.#pump();
  }

  /** The lease is still held: until a master has the result. */
  #report(attempt: Attempt, outcome: Outcome, ranMs: number): void {
    attempt.phase = 'finished';
    const { taskId, epoch } = attempt.grant;
    this.#outbox.push({ taskId, epoch, outcome, ranUs: ranMs * 1000 });
    this.#kick();
  }

  #settle(results: readonly Report[]): void {
    for (const { taskId, epoch } of results) {
      const attempt = this.#held.get(taskId);
      if (attempt?.grant.epoch === epoch && attempt.phase === 'finished') this.#drop(attempt, false);
    }
  }

  /** Is not held any more. */
  #drop(attempt: Attempt, isLost: boolean): void {
    const { phase } = attempt;
    attempt.phase = 'settled';
    if (this.#held.get(attempt.grant.taskId) === attempt) {
      this.#held.delete(attempt.grant.taskId);
      this.#xor ^= attempt.fingerprint;
    }
    if (!isLost) return;
    if (phase === 'queued') this.#queue.splice(this.#queue.indexOf(attempt), 1);
    if (phase === 'running') {
      if (attempt.timer) attempt.timer.act = null;
      this.#running--;
      this.#killCode(attempt);
    }
  }

  #handBackQueued(): void {
    for (const attempt of [...this.#queue]) this.#stop(attempt, 'hand-back');
  }

  // heartbeat --------------------------------------------------------------------------------------------------------------

  #beatAfter(delayMs: number): void {
    if (this.#beatTimer) this.#beatTimer.act = null;
    this.#beatTimer = this.#machine.after(delayMs, () => this.#beatNow());
  }

  #beatNow(): void {
    if (this.#over || this.#beating) return;
    this.#machine.start(this.#beat());
  }

  *#beat(): Steps<void> {
    this.#beating = true;
    if (this.#beatTimer) this.#beatTimer.act = null;
    const { defects } = this.#world;
    const sentMs = this.#process.now;
    const held = this.#toSend;
    this.#toSend = null;
    const input = {
      sessionId: this.id,
      number: ++this.#beats,
      count: this.#held.size,
      xor: this.#xor,
      held: held ?? [],
      heldIsComplete: held !== null,
      draining: this.#draining,
    };
    const leftMs = this.#renewedMs + this.#leaseTtlMs - sentMs;
    const timeoutMs = Math.max(100, Math.min(SETTINGS.heartbeatIntervalMs, leftMs));
    const end = yield* until(this.#heartbeat((master) => master.heartbeat(input), timeoutMs));
    this.#beating = false;
    if (this.#over) return;
    if (!end.ok) {
      if (end.reason === SESSION_LOST) this.#lose(false);
      else
        this.#beatAfter(
          this.#world.random.next() *
            Math.min(SETTINGS.heartbeatIntervalMs, 100 * 2 ** Math.min(this.#beatFailures++, 10)),
        );
      return;
    }
    if (this.#beatFailures > 0 && this.#pausing) this.#retryNow();
    this.#beatFailures = 0;
    this.#renewedMs = defects.has('lease from answer') ? this.#process.now : sentMs;
    this.#leaseTtlMs = end.value.leaseTtlMs;
    this.#leaseTtlMs = end.value.leaseTtlMs;
    this.#armExpiry();
    this.#beatAfter(SETTINGS.heartbeatIntervalMs);
    const { orders, lost, sendHeld } = end.value;
    this.#obey(orders);
    for (const { taskId, epoch } of lost) {
      const attempt = this.#held.get(taskId);
      if (attempt?.grant.epoch === epoch) this.#drop(attempt, true);
    }
    if (lost.length > 0) this.#kick();
    this.#pump();
    if (sendHeld && held === null) {
      this.#toSend = this.#list();
      this.#trace(`lists what it holds, number ${this.#beats + 1}`);
      this.#listedMs = this.#process.now;
      // What comes of it was disowned with this list.
      // Its offer is void by the next one's; its answer is waited for.
      if (this.#poll?.offers) this.#poll = null;
      this.#kick();
      this.#beatNow();
    }
  }

  #list(): HeldByWorker[] {
    return [...this.#held.values()].map(({ grant, phase, startedAtMs }) => ({
      taskId: grant.taskId,
      epoch: grant.epoch,
      started: phase !== 'queued',
      ranMs: phase === 'queued' ? 0 : this.#process.now - startedAtMs,
    }));
  }

  /** By its own clock. */
  get #letsGoAtMs(): number {
    const forEver = this.#world.defects.has('worker clock');
    return forEver ? Number.POSITIVE_INFINITY : this.#renewedMs + this.#leaseTtlMs - MARGIN_MS;
  }

  #armExpiry(): void {
    if (this.#expiryTimer) this.#expiryTimer.act = null;
    const leftMs = this.#letsGoAtMs - this.#process.now;
    if (leftMs < Number.POSITIVE_INFINITY)
      this.#expiryTimer = this.#machine.after(Math.max(0, leftMs), () => this.#lose(true));
  }

  // the end ----------------------------------------------------------------------------------------------------------------

  /** The leases are another's by now, or may be. */
  #lose(silent: boolean): void {
    if (this.#over) return;
    this.#finishLife();
    if (this.#draining) return;
    this.#ended = silent;
    this.#end?.(silent);
  }

  #finishLife(): void {
    this.#over = true;
    if (this.#beatTimer) this.#beatTimer.act = null;
    if (this.#expiryTimer) this.#expiryTimer.act = null;
    this.#accepting = false;
    for (const attempt of [...this.#held.values()]) this.#drop(attempt, true);
  }

  /** Given up in silence, and a master answers again: hands in what was finished, gives back the rest once its code has ended. */
  *makeGood(): Steps<void> {
    const results = [...this.#sending, ...this.#outbox];
    if (results.length > 0) {
      const end = yield* this.#hand(this.#input(results, 0, false, 0), SETTINGS.answerTimeoutMs);
      if (!end.ok) return;
    }
    while (this.#codes > 0) yield* until(this.#machine.sleep(20));
    yield* until(this.#exchange((master) => master.leave(this.id), SETTINGS.answerTimeoutMs));
  }

  *drain(graceMs: number): Steps<void> {
    this.#draining = true;
    this.#accepting = false;
    this.#beatNow();
    this.#handBackQueued();
    this.#kick();
    const graceEnds = this.#process.now + graceMs;
    while (this.#running > 0 && !this.#over && this.#process.now < graceEnds) yield* until(this.#machine.sleep(20));
    for (const attempt of [...this.#held.values()]) this.#stop(attempt, 'hand-back');
    const farewellEnds = this.#process.now + SETTINGS.farewellMs;
    while (
      !this.#over &&
      this.#process.now < farewellEnds &&
      (this.#held.size > 0 || this.#pushing || this.#poll?.offers)
    )
      yield* until(this.#machine.sleep(20));
    while (this.#codes > 0) yield* until(this.#machine.sleep(20));
    if (this.#over) return;
    this.#finishLife();
    while (this.#codes > 0) yield* until(this.#machine.sleep(20));
    yield* until(this.#exchange((master) => master.leave(this.id), SETTINGS.answerTimeoutMs));
  }
}
