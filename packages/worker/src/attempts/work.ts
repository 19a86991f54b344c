// Long because it is one state machine: the leases of a session and what becomes of each.

import { FailureType, type HeldLease, HeldLeaseSchema, type Lease, type TaskResult } from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { create } from '@bufbuild/protobuf';
import { monotonicMs } from '../clock.ts';
import { aborted, first } from '../first.ts';
import type { SharedState } from '../heartbeat/shared-state.ts';
import { Waiters } from '../waiters.ts';
import { Attempt, type DataSink, type LogSink, type OutputSink, type SignSink } from './attempt.ts';
import type { AttemptFilesEnd } from './attempt-data.ts';
import type { Executor, Outcome } from './executor.ts';
import { FetchAhead } from './fetch-ahead.ts';
import { Prefetch } from './prefetch.ts';
import { type ResourceAccounts, takesRoom } from './resource-accounts.ts';
import type { StopKind } from './stop.ts';
import { type Ending, taskResult } from './task-result.ts';

/** The main loop is left to others (I/O, timers, heartbeat orders) after so much work at a stretch. */
const sliceMs = 5;
const maxTimerMs = 0x7fffffff;
/** A task that is asked to save where it stands before it is handed back has so long. */
const checkpointNowMs = 10_000;
/** Tasks with devices that take longer than this, on average, are not fetched ahead: what is more urgent would wait behind them. */
const longDeviceTaskMs = 10_000;
const deviceTaskWeight = 0.2;
/** A cancel that came before its lease is kept so long: the lease is on its way, in another answer. */
const cancelAheadMs = 30_000;

export interface WorkOptions {
  readonly executors: readonly Executor[];
  readonly slots: number;
  /** The most leases held beyond the slots. */
  readonly prefetchCap: number;
  /** How long the code of a stopped attempt may take to end before it is given up. */
  readonly abortGraceMs: number;
  readonly maxResultBytes: number;
  readonly logs: LogSink & { flushed(attempt: Attempt): Promise<void> | undefined };
  readonly outputs: OutputSink & {
    ended(attempt: Attempt, succeeded: boolean): Promise<Error | undefined> | undefined;
    discard(attempt: Attempt): void;
  };
  /** Checkpoints and blobs of attempts. */
  readonly data: DataSink;
  /** Of the worker; those that tasks may be handed. */
  readonly variables: Readonly<Record<string, string>>;
  readonly shared: SharedState;
  /** Of the machine; outlives sessions. */
  readonly accounts: ResourceAccounts;
  /** Takes what attempts say of their progress to the heartbeat. */
  readonly onSaid: SignSink['say'];
  readonly log: Logger;
  /** A result is ready to be sent. */
  readonly onResult: (result: TaskResult) => void;
  /** An attempt writes no more lines. */
  readonly onOver: (taskId: string) => void;
  /** The master has taken a result by another way. */
  readonly onTaken: (result: TaskResult) => void;
}

/**
 * The leases that one session holds: which wait, which run, which have ended and wait for the master's word. A lease is
 * held from the answer that grants it until the master has taken its result, or until it is lost.
 */
export class Work {
  readonly #options: WorkOptions;
  readonly #executors: ReadonlyMap<string, Executor>;
  readonly #held = new Map<string, Attempt>();
  /** Queued attempts; those that left the queue otherwise are skipped when their turn comes. */
  #queue: Attempt[] = [];
  #queueHead = 0;
  /** Those of them, and of those below. */
  #queued = 0;
  /** Queued, and not in the queue yet: another attempt has their device. */
  readonly #waiting = new Set<Attempt>();
  /** How long tasks with devices ran, on average; undefined: none has ended. */
  #deviceTaskMs: number | undefined;
  #running = 0;
  #xor = 0n;
  readonly prefetch: Prefetch;
  readonly #ahead: FetchAhead;
  #accepting = true;
  #pumping = false;
  /** From `performance.now()` to `monotonicMs()`. */
  readonly #clockOffset = monotonicMs() - performance.now();
  #yielding = false;
  #sliceEnd = 0;
  #toArm: Attempt[] = [];
  readonly #idle = new Waiters();
  /** Attempts whose code has not ended, those that were lost or given up included. */
  #alive = 0;
  readonly #codeEnded = new Waiters();
  readonly #signs: SignSink;
  /** Cancels of leases that are not here (yet), by task and epoch. */
  readonly #cancelled = new Map<string, { reason: string; atMs: number }>();

  constructor(options: WorkOptions) {
    this.#options = options;
    this.#executors = new Map(options.executors.map((executor) => [executor.type, executor]));
    this.prefetch = new Prefetch(options.slots, options.prefetchCap);
    this.#ahead = new FetchAhead(options.data);
    this.#signs = { board: options.shared.signs, say: options.onSaid };
  }

  get running(): number {
    return this.#running;
  }

  get queued(): number {
    return this.#queued;
  }

  get held(): number {
    return this.#held.size;
  }

  /** How many leases more are wanted now. */
  get wanted(): number {
    return this.#accepting ? Math.max(0, this.#options.slots + this.prefetch.value - this.#running - this.#queued) : 0;
  }

  /**
   * Of the slots wanted, those for tasks with resources. While tasks are short others wait in front of each slot, and one with resources
   * goes before them; so each slot is as good as free for one.
   */
  get resourceSlots(): number {
    if (!this.#accepting) {
      return 0;
    }
    const { slots, accounts } = this.#options;
    const open = this.prefetch.value > 0 ? slots - accounts.held : slots - this.#running - this.#queued;
    return Math.max(0, Math.min(open, this.wanted));
  }

  /** Devices that are in use, for which the next task may be fetched already. */
  get nextDevices(): string[] {
    const isShort = this.#deviceTaskMs !== undefined && this.#deviceTaskMs <= longDeviceTaskMs;
    return this.#accepting && isShort ? this.#options.accounts.nextDevices() : [];
  }

  get idleSlots(): number {
    return Math.max(0, this.#options.slots - this.#running);
  }

  /** Whether an attempt of it waits or runs here. */
  hasOpen(taskId: string): boolean {
    const phase = this.#held.get(taskId)?.phase;
    return phase === 'queued' || phase === 'running';
  }

  /** The last line that the attempt of it that is held has written; sequence 0: none yet. */
  lastLine(taskId: string): { epoch: number; sequence: bigint } | undefined {
    const attempt = this.#held.get(taskId);
    return attempt && { epoch: attempt.epoch, sequence: BigInt(attempt.logSequence) };
  }

  holds(taskId: string, epoch: number): boolean {
    return this.#held.get(taskId)?.epoch === epoch;
  }

  /** Takes leases that were granted. One that is held already is ignored; a newer epoch of the same task replaces it. */
  accept(leases: readonly Lease[]): void {
    const { logs, outputs, data, variables } = this.#options;
    const withData: Attempt[] = [];
    for (const lease of leases) {
      const known = this.#held.get(lease.taskId);
      if (known !== undefined) {
        if (known.epoch >= lease.epoch) {
          continue;
        }
        this.#lose(known, 'the task was leased anew');
      }
      const attempt = new Attempt(lease, logs, outputs, this.#signs, data, variables);
      this.#held.set(attempt.taskId, attempt);
      this.#xor ^= attempt.fingerprint;
      const misfit = takesRoom(lease) ? this.#takeRoom(attempt) : undefined;
      if (this.#waiting.has(attempt)) {
        // Its device is another's yet.
      } else if (attempt.hasRoom) {
        this.#queueFirst(attempt);
      } else {
        this.#queue.push(attempt);
      }
      this.#queued++;
      if (lease.inputBlob !== undefined || Object.keys(lease.artifacts).length > 0) {
        withData.push(attempt);
      }
      if (misfit !== undefined) {
        this.#options.log.warn('lease handed back that does not fit', { ...attempt.fields, reason: misfit });
        this.#stop(attempt, 'hand-back', misfit);
        continue;
      }
      const cancelled = this.#cancelled.get(`${lease.taskId}.${lease.epoch}`);
      if (cancelled !== undefined) {
        this.#stop(attempt, 'cancel', cancelled.reason);
      }
    }
    this.#publish();
    if (!this.#accepting) {
      this.#handBackQueued();
      this.#handBackWaiting();
    }
    this.#pump();
    for (const attempt of withData) {
      if (attempt.phase === 'queued') {
        this.#ahead.consider(attempt);
      }
    }
  }

  #takeRoom(attempt: Attempt): string | undefined {
    const onTurn = (unfit?: string) => this.#takeTurn(attempt, unfit);
    const { misfit, waits = false } = this.#options.accounts.take(attempt.lease, attempt, onTurn);
    attempt.hasRoom = misfit === undefined;
    if (waits) {
      this.#waiting.add(attempt);
    }
    return misfit;
  }

  /** The device that it waited for is free, and its own; or is not fit any more. */
  #takeTurn(attempt: Attempt, unfit: string | undefined): void {
    this.#waiting.delete(attempt);
    if (unfit !== undefined) {
      this.#options.log.warn('lease handed back that does not fit', { ...attempt.fields, reason: unfit });
      this.#stop(attempt, 'hand-back', unfit);
      return;
    }
    this.#queueFirst(attempt);
    this.#pump();
  }

  /** What it has it gives back when its code has ended, not before: whether its lease is still held or not. */
  #freeRoom(attempt: Attempt): void {
    if (attempt.hasRoom) {
      attempt.hasRoom = false;
      this.#waiting.delete(attempt);
      this.#options.accounts.release(attempt.lease, attempt);
    }
  }

  /** Before those that take up nothing, behind others of its kind. */
  #queueFirst(attempt: Attempt): void {
    let at = this.#queueHead;
    while (at < this.#queue.length && this.#queue[at]!.hasRoom) {
      at++;
    }
    this.#queue.splice(at, 0, attempt);
  }

  /** The master took the result (or will never): the lease is not held any more. */
  acknowledge(results: readonly TaskResult[]): void {
    for (const { taskId, epoch } of results) {
      const attempt = this.#held.get(taskId);
      if (attempt !== undefined && attempt.epoch === epoch && attempt.phase === 'finished') {
        attempt.phase = 'settled';
        this.#drop(attempt);
      }
    }
    this.#publish();
  }

  /** Whether a cancelled attempt is held here. */
  cancel(taskId: string, epoch: number | undefined, reason: string): boolean {
    const attempt = this.#held.get(taskId);
    if (attempt === undefined && epoch !== undefined) {
      this.#cancelAhead(`${taskId}.${epoch}`, reason);
    }
    if (attempt === undefined || (epoch !== undefined && attempt.epoch !== epoch) || attempt.phase === 'finished') {
      return false;
    }
    if (attempt.stop === undefined) {
      this.#options.log.info('task cancel requested', { ...attempt.fields, reason });
    }
    this.#stop(attempt, 'cancel', cancelReason(reason));
    return true;
  }

  /** An order and the lease that it is about may come by different ways. */
  #cancelAhead(lease: string, reason: string): void {
    const now = performance.now();
    for (const [known, { atMs }] of this.#cancelled) {
      if (now - atMs < cancelAheadMs) {
        break;
      }
      this.#cancelled.delete(known);
    }
    this.#cancelled.delete(lease);
    this.#cancelled.set(lease, { reason: cancelReason(reason), atMs: now });
  }

  /** The master says that the lease is another's by now: end the work, discard what comes of it. */
  lose(taskId: string, epoch: number, reason: string): void {
    const attempt = this.#held.get(taskId);
    if (attempt !== undefined && attempt.epoch === epoch) {
      if (attempt.phase === 'finished') {
        // Mostly the master has taken the result, and only its answer is missing; what it says to the next one counts.
        this.#options.log.debug('lease is over', { ...attempt.fields, reason });
      } else {
        this.#options.log.warn('lease lost', { ...attempt.fields, reason });
      }
      this.#lose(attempt, reason);
      this.#publish();
      this.#pump();
    }
  }

  loseAll(reason: string): void {
    this.#accepting = false;
    for (const attempt of [...this.#held.values()]) {
      this.#lose(attempt, reason);
    }
    this.#publish();
  }

  /** No new work; what has not been started goes back. */
  stopAccepting(): void {
    this.#accepting = false;
    this.#handBackQueued();
    this.#handBackWaiting();
    this.#publish();
  }

  /** Ends what runs, and hands it back; what listens saves first where it stands, unless there is no time (`hurry`). */
  handBackRunning(reason: string, hurry: AbortSignal): void {
    for (const attempt of [...this.#held.values()]) {
      if (attempt.phase === 'running') {
        const saved = hurry.aborted || attempt.stop !== undefined ? undefined : attempt.checkpointNow();
        if (saved === undefined) {
          this.#stop(attempt, 'hand-back', reason);
        } else {
          this.#options.log.info('task asked for a checkpoint', { ...attempt.fields, reason });
          void first([saved, aborted(hurry)], checkpointNowMs).then(() => this.#stop(attempt, 'hand-back', reason));
        }
      }
    }
  }

  /** Others wait for work: hands back up to so many leases that have not been started, those granted last first. Returns how many. */
  recall(count: number): number {
    let returned = this.#handBackWaiting(count, 'others wait for work');
    for (let i = this.#queue.length - 1; i >= this.#queueHead && returned < count; i--) {
      const attempt = this.#queue[i]!;
      if (attempt.phase === 'queued') {
        this.#stop(attempt, 'hand-back', 'others wait for work');
        returned++;
      }
    }
    // Else the next exchange would ask for them again.
    this.prefetch.lowerTo(this.#queued);
    this.#publish();
    return returned;
  }

  /**
   * Hands back what waits although tasks have proved to be long: granted in a race between two offers, or fetched while
   * tasks were short. Another worker may have a slot for it. To be called now and then.
   */
  handBackSurplus(): void {
    if (this.#queued > 0 && this.#running >= this.#options.slots && this.prefetch.value === 0) {
      this.#handBackQueued();
      this.#publish();
    }
  }

  /** Resolves when nothing runs. */
  whenIdle(): Promise<void> {
    return this.#running === 0 ? Promise.resolve() : this.#idle.wait();
  }

  /** Resolves when no code of a task runs any more, whether its lease is still held or not. */
  whenCodeEnded(): Promise<void> {
    return this.#alive === 0 ? Promise.resolve() : this.#codeEnded.wait();
  }

  attempts(): Iterable<Attempt> {
    return this.#held.values();
  }

  /** Everything held, as a heartbeat names it. */
  list(): HeldLease[] {
    const now = performance.now();
    return Array.from(this.#held.values(), (attempt) =>
      create(HeldLeaseSchema, {
        taskId: attempt.taskId,
        epoch: attempt.epoch,
        started: attempt.phase !== 'queued',
        ranMs: attempt.phase === 'queued' ? 0n : BigInt(Math.round(now - attempt.startedAt)),
      }),
    );
  }

  /** Goes on after a renewal that came late. Called often; costs nothing when nothing waits. */
  resume(): void {
    if (this.#queueHead < this.#queue.length && !this.#yielding) {
      this.#pump();
    }
  }

  #pump(): void {
    if (this.#pumping || this.#yielding) {
      return;
    }
    this.#pumping = true;
    const leaseUntil = this.#options.shared.leaseUntilMs - this.#clockOffset;
    while (this.#running < this.#options.slots && this.#queueHead < this.#queue.length) {
      const now = performance.now();
      // Nothing begins after the worker's own lease time: renewed, it goes on; over, the session is about to be lost.
      if (now >= leaseUntil) {
        break;
      }
      if (now > this.#sliceEnd) {
        this.#yield();
        break;
      }
      const attempt = this.#queue[this.#queueHead++]!;
      if (attempt.phase === 'queued') {
        this.#start(attempt);
      }
    }
    if (this.#queueHead > 1000 || this.#queueHead === this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    this.#pumping = false;
    this.#options.shared.running = this.#running;
  }

  // Tasks that end at once, or within microtasks, would otherwise keep the loop from ever reaching I/O.
  #yield(): void {
    this.#yielding = true;
    setImmediate(() => {
      this.#yielding = false;
      this.#sliceEnd = performance.now() + sliceMs;
      this.#pump();
    });
  }

  #start(attempt: Attempt): void {
    attempt.phase = 'running';
    attempt.startedAt = performance.now();
    attempt.signedAt = attempt.startedAt;
    // Before its code: it may never let the main loop turn again.
    attempt.seat = this.#signs.board.sit(
      attempt.fingerprint,
      attempt.epoch,
      attempt.startedAt,
      attempt.progressTimeoutMs,
    );
    this.#queued--;
    this.#running++;
    if (attempt.lease.inputBlob === undefined) {
      this.#ahead.leave(attempt);
    }
    const type = attempt.lease.executor.case ?? 'function';
    const executor = this.#executors.get(type);
    if (executor === undefined) {
      this.#freeRoom(attempt);
      this.#finish(attempt, unexpected(`this worker has no executor "${type}"`));
      return;
    }
    let outcome: Outcome | Promise<Outcome>;
    try {
      outcome =
        attempt.lease.inputBlob === undefined
          ? executor.start(attempt.lease, attempt)
          : this.#startWithBlob(executor, attempt);
    } catch (error) {
      outcome = unexpected('the executor threw', error);
    }
    if (outcome instanceof Promise) {
      this.#alive++;
      outcome.then(
        (settled) => this.#codeEnds(attempt, settled),
        (error: unknown) => this.#codeEnds(attempt, unexpected('the executor rejected', error)),
      );
      this.#armSoon(attempt);
    } else {
      this.#freeRoom(attempt);
      this.#finish(attempt, outcome);
      this.#disposeOf(attempt);
    }
  }

  /** An input that is a blob is fetched first. That it cannot be is no fault of the task. */
  async #startWithBlob(executor: Executor, attempt: Attempt): Promise<Outcome> {
    let input: Uint8Array;
    try {
      input = (await this.#ahead.leave(attempt)) ?? (await this.#options.data.input(attempt));
      if (attempt.stop !== undefined) {
        return { kind: 'cancelled' };
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return attempt.stop !== undefined
        ? { kind: 'cancelled' }
        : {
            kind: 'failure',
            failure: {
              type: FailureType.NETWORK_ERROR,
              message,
              exceptionType: error instanceof Error ? error.name : undefined,
            },
          };
    }
    return executor.start({ ...attempt.lease, input, inputBlob: undefined }, attempt);
  }

  /** It never begins: what was fetched for it goes. */
  #forgetAhead(attempt: Attempt): void {
    this.#ahead.leave(attempt);
    this.#disposeOf(attempt);
  }

  #codeEnds(attempt: Attempt, outcome: Outcome): void {
    if (--this.#alive === 0) {
      this.#codeEnded.wake();
    }
    this.#freeRoom(attempt);
    this.#finish(attempt, outcome);
    this.#disposeOf(attempt);
  }

  /** Its files go when neither its code nor its result needs them any more. */
  #disposeOf(attempt: Attempt): void {
    attempt.files?.dispose().catch((error: unknown) => {
      this.#options.log.warn('files of a task were not removed', { ...attempt.fields, reason: String(error) });
    });
  }

  // A timer is made only for what still runs a turn later: most short tasks never need one.
  #armSoon(attempt: Attempt): void {
    if (attempt.startToCloseMs === 0 && attempt.progressTimeoutMs === 0) {
      return;
    }
    if (this.#toArm.push(attempt) === 1) {
      setImmediate(() => {
        const attempts = this.#toArm;
        this.#toArm = [];
        for (const each of attempts) {
          if (each.phase === 'running' && each.stop === undefined) {
            this.#arm(each);
          }
        }
      });
    }
  }

  #arm(attempt: Attempt): void {
    const { startedAt, startToCloseMs, signedAt, progressTimeoutMs } = attempt;
    const endsAt = startToCloseMs === 0 ? Number.POSITIVE_INFINITY : startedAt + startToCloseMs;
    const silentAt = progressTimeoutMs === 0 ? Number.POSITIVE_INFINITY : signedAt + progressTimeoutMs;
    const leftMs = Math.min(endsAt, silentAt) - performance.now();
    // No timer is longer than 24.8 days; a task may be.
    attempt.timer = setTimeout(() => this.#timeOut(attempt), Math.min(Math.max(0, leftMs), maxTimerMs));
  }

  #timeOut(attempt: Attempt): void {
    const now = performance.now() + 1;
    const { startToCloseMs, progressTimeoutMs } = attempt;
    if (startToCloseMs > 0 && now - attempt.startedAt >= startToCloseMs) {
      this.#options.log.warn('task timed out', { ...attempt.fields, start_to_close_ms: startToCloseMs });
      this.#stop(attempt, 'timeout', timeoutMessage(attempt));
    } else if (progressTimeoutMs > 0 && now - attempt.signedAt >= progressTimeoutMs) {
      this.#options.log.warn('task gave no sign', { ...attempt.fields, progress_timeout_ms: progressTimeoutMs });
      this.#stop(attempt, 'timeout', `no sign for ${progressTimeoutMs} ms`);
    } else {
      // It gave signs meanwhile.
      this.#arm(attempt);
    }
  }

  /** Asks an attempt to end; what has not been started ends at once. */
  #stop(attempt: Attempt, kind: Exclude<StopKind, 'lost'>, message: string): void {
    if (attempt.phase === 'queued') {
      attempt.requestStop(kind, message);
      this.#queued--;
      this.#freeRoom(attempt);
      this.#forgetAhead(attempt);
      this.#end(attempt, kind === 'cancel' ? { kind: 'cancelled' } : { kind: 'returned' }, 0);
      return;
    }
    if (attempt.phase !== 'running' || attempt.stop !== undefined) {
      return;
    }
    clearTimeout(attempt.timer);
    // Before the signal: code that ends within the abort must find the timer that its end clears.
    attempt.timer = setTimeout(() => {
      this.#options.log.warn('task did not stop', { ...attempt.fields, stop: kind });
      this.#finish(attempt, { kind: 'cancelled' });
    }, this.#graceOf(attempt));
    attempt.requestStop(kind, message);
  }

  #graceOf({ lease }: Attempt): number {
    const executor = this.#executors.get(lease.executor.case ?? 'function');
    return executor?.stopGraceMs?.(lease) ?? this.#options.abortGraceMs;
  }

  #finish(attempt: Attempt, outcome: Outcome): void {
    if (attempt.phase !== 'running') {
      // Given up, or lost, while its code went on.
      return;
    }
    clearTimeout(attempt.timer);
    this.#signs.board.leave(attempt.seat);
    const ranMs = performance.now() - attempt.startedAt;
    this.#running--;
    this.prefetch.taskEnded(ranMs);
    if (attempt.lease.devices.length > 0) {
      const before = this.#deviceTaskMs ?? ranMs;
      this.#deviceTaskMs = before + (ranMs - before) * deviceTaskWeight;
    }
    const ending = this.#endingOf(attempt, outcome, ranMs);
    attempt.rest = outcome.kind === 'success' ? outcome.rest : undefined;
    this.#end(attempt, ending, ranMs);
    if (ending.kind !== 'returned' && ending.kind !== 'suspended') {
      this.#options.shared.countEnd(ending.kind === 'success');
    }
    if (this.#running === 0) {
      this.#idle.wake();
    }
    this.#pump();
  }

  #endingOf(attempt: Attempt, outcome: Outcome, ranMs: number): Ending {
    // Also for code that blocked the loop past its time, so that no timer could say so.
    const late = attempt.startToCloseMs > 0 && ranMs >= attempt.startToCloseMs;
    if (attempt.stop?.kind === 'timeout' || (late && attempt.stop === undefined)) {
      return {
        kind: 'failure',
        failure: { type: FailureType.TASK_TIMEOUT, message: attempt.stop?.message ?? timeoutMessage(attempt) },
      };
    }
    if (outcome.kind === 'success' || outcome.kind === 'suspended') {
      // Work that was done stands, even when somebody asked to stop it meanwhile: the master decides.
      return outcome;
    }
    switch (attempt.stop?.kind) {
      case 'cancel':
        return { kind: 'cancelled' };
      case 'hand-back':
        return { kind: 'returned' };
      default:
        return outcome.kind === 'failure'
          ? outcome
          : unexpected('the executor cancelled what nobody asked it to cancel');
    }
  }

  /** The lease is still held: until the master has the result. */
  #end(attempt: Attempt, ending: Ending, ranMs: number): void {
    attempt.phase = 'finished';
    const { logs, outputs, onOver } = this.#options;
    onOver(attempt.taskId);
    // Its lines and its output first: with the result the lease ends, and what comes later is refused.
    const flushed = attempt.logSequence > 0 ? logs.flushed(attempt) : undefined;
    const kept = outputs.ended(attempt, ending.kind === 'success');
    if (attempt.files !== undefined && ending.kind === 'success') {
      void this.#endWithFiles(attempt, attempt.files, ending, ranMs, [flushed, kept]);
      return;
    }
    if (flushed === undefined && kept === undefined) {
      this.#handIn(attempt, ending, ranMs);
      return;
    }
    void Promise.all([kept, flushed]).then(([broken]) => {
      if (attempt.phase === 'finished') {
        this.#handIn(
          attempt,
          ending.kind === 'success' && broken !== undefined ? withoutOutput(broken) : ending,
          ranMs,
        );
      }
    });
  }

  /** Its files are uploaded before its success is told: they are there with it, or there is none. */
  async #endWithFiles(
    attempt: Attempt,
    files: AttemptFilesEnd,
    success: Ending & { kind: 'success' },
    ranMs: number,
    [flushed, kept]: [Promise<unknown> | undefined, Promise<Error | undefined> | undefined],
  ): Promise<void> {
    let ending: Ending = success;
    let produced: Awaited<ReturnType<AttemptFilesEnd['finished']>> | undefined;
    try {
      produced = await files.finished();
    } catch (error) {
      ending = withoutFiles(error);
    }
    const [broken] = await Promise.all([kept, flushed]);
    if (attempt.phase === 'finished') {
      this.#handIn(attempt, broken === undefined ? ending : withoutOutput(broken), ranMs, produced);
    }
  }

  #handIn(
    attempt: Attempt,
    ending: Ending,
    ranMs: number,
    files?: Awaited<ReturnType<AttemptFilesEnd['finished']>>,
  ): void {
    const { log, maxResultBytes, onResult, onTaken, data } = this.#options;
    const { rest } = attempt;
    const result = taskResult(attempt, ending, ranMs, maxResultBytes, files);
    if (result.outcome.case === 'failure') {
      const { type, message } = result.outcome.value;
      log.info('task failed', { ...attempt.fields, failure: FailureType[type], reason: message });
    } else if (log.debugEnabled) {
      log.debug('task ended', { ...attempt.fields, outcome: result.outcome.case, ran_ms: ranMs });
    }
    if (rest === undefined || data.journals === undefined) {
      onResult(result);
      return;
    }
    data.journals.complete(attempt, rest, result).then(
      (isTaken) => (isTaken ? onTaken : onResult)(result),
      (error: unknown) => {
        if (attempt.phase === 'finished') {
          onResult(taskResult(attempt, unexpected('the journal refused the end of the function', error), ranMs, 0));
        }
      },
    );
  }

  #lose(attempt: Attempt, reason: string): void {
    const { phase } = attempt;
    attempt.phase = 'settled';
    this.#drop(attempt);
    if (phase === 'queued') {
      this.#queued--;
      this.#freeRoom(attempt);
      this.#forgetAhead(attempt);
    } else if (phase === 'running') {
      clearTimeout(attempt.timer);
      this.#signs.board.leave(attempt.seat);
      this.#running--;
      attempt.requestStop('lost', reason);
      if (this.#running === 0) {
        this.#idle.wake();
      }
    }
    this.#options.outputs.discard(attempt);
    this.#options.onOver(attempt.taskId);
  }

  #handBackQueued(): void {
    const waiting = this.#queue.slice(this.#queueHead);
    this.#queue = [];
    this.#queueHead = 0;
    for (const attempt of waiting) {
      if (attempt.phase === 'queued') {
        this.#stop(attempt, 'hand-back', 'the worker has no slot for it');
      }
    }
  }

  #handBackWaiting(most = this.#waiting.size, reason = 'the worker takes no new work'): number {
    const returned = [...this.#waiting].reverse().slice(0, most);
    for (const attempt of returned) {
      this.#stop(attempt, 'hand-back', reason);
    }
    return returned.length;
  }

  #drop(attempt: Attempt): void {
    // A newer epoch may have taken its place.
    if (this.#held.get(attempt.taskId) === attempt) {
      this.#held.delete(attempt.taskId);
      this.#xor ^= attempt.fingerprint;
    }
  }

  #publish(): void {
    this.#options.shared.writeDigest(this.#held.size, this.#xor);
    this.#options.shared.running = this.#running;
  }
}

function cancelReason(reason: string): string {
  return reason === '' ? 'the task was cancelled' : reason;
}

function timeoutMessage(attempt: Attempt): string {
  return `the attempt did not end within its start-to-close time of ${attempt.startToCloseMs} ms`;
}

/** A success whose files are not kept is none. */
function withoutFiles(error: unknown): Outcome {
  const isError = error instanceof Error;
  const nonRetryable = isError && 'nonRetryable' in error && error.nonRetryable === true;
  const message = isError ? error.message : String(error);
  const failure = { type: FailureType.EVALUATION_ERROR, message, nonRetryable };
  return { kind: 'failure', failure: { ...failure, exceptionType: isError ? error.name : undefined } };
}

/** A success whose output is not kept is none. */
function withoutOutput(error: Error): Outcome {
  const failure = { type: FailureType.EVALUATION_ERROR, message: error.message, exceptionType: error.name };
  return { kind: 'failure', failure };
}

function unexpected(message: string, error?: unknown): Outcome {
  const cause = error instanceof Error ? `: ${error.message}` : error === undefined ? '' : `: ${String(error)}`;
  return {
    kind: 'failure',
    failure: {
      type: FailureType.UNKNOWN,
      message: message + cause,
      exceptionType: error instanceof Error ? error.name : undefined,
      stack: error instanceof Error ? error.stack : undefined,
    },
  };
}
