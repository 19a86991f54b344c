import {
  type ExchangeRequest,
  ExchangeRequestSchema,
  type ExchangeResponse,
  FailureType,
  type Lease,
  type OfferSchema,
  type Orders,
  type RefusedResult,
  type TaskResult,
} from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { failureOutcome } from '../attempts/task-result.ts';
import { monotonicMs } from '../clock.ts';
import { Waiters } from '../waiters.ts';
import { fullJitter } from './backoff.ts';
import { describe, sessionRefusal } from './refusal.ts';

/** Of an offer what is free beside slots. */
export type OfferedRoom = Pick<
  MessageInitShape<typeof OfferSchema>,
  'free' | 'devices' | 'nextDevices' | 'warm' | 'resourceSlots'
>;

const retry = { baseMs: 100, capMs: 5_000 };
/** Results of one exchange: far below what a master reads in one message (4 MiB). */
const batchResults = 5_000;
const batchBytes = 3 * 1024 * 1024;
/** A result's share of a message beside its output. */
const resultOverheadBytes = 64;
/** An answer to an exchange that does not wait is there by then, or the connection is dead. */
const answerTimeoutMs = 10_000;
/** Why a poll that offered nothing is given up, as an AbortController says it; one for all, for its stack costs more than the call. */
const overtaken = new DOMException('This operation was aborted', 'AbortError');

export interface ExchangeOptions {
  readonly namespace: string;
  readonly sessionId: string;
  readonly longPollMs: number;
  readonly call: (
    request: ExchangeRequest,
    options: { timeoutMs: number; signal: AbortSignal },
  ) => Promise<ExchangeResponse>;
  /**
   * Leases of an answer are not started when its call was sent before this time (of `monotonicMs`): the master was told since
   * that they are not held, and may have given them to others.
   */
  readonly staleBefore: () => number;
  /** Leases of such an answer: to be handed back at once. */
  readonly onLateLeases: (leases: Lease[]) => void;
  /** How many leases are wanted now. */
  readonly wanted: () => number;
  /** What is free beside slots; asked for each offer. Absent: it is not said. */
  readonly room?: () => OfferedRoom;
  readonly onLeases: (leases: Lease[], answer: Answer) => void;
  readonly onOrders: (orders: Orders) => void;
  /** The master has taken these, or never will. */
  readonly onSettled: (results: TaskResult[]) => void;
  /** The master does not know the session any more. */
  readonly onSessionLost: (reason: string) => void;
  /** An answer did not come in time: the connection may be dead without knowing it. */
  readonly onSilence: () => void;
  readonly log: Logger;
}

/** Tells what an answer with leases answered: `asked` is undefined for a long poll. */
export interface Answer {
  readonly asked: number | undefined;
}

interface Poll {
  readonly abort: AbortController;
  /** Whether it asks for work, or only listens for orders. */
  readonly offers: boolean;
}

/**
 * Hands in results and fetches work. At most one exchange with results is under way; what ends meanwhile gathers for the
 * next one. Without results it keeps a long poll open. Results never wait for a long poll: they go out beside it, and the
 * newer offer that goes with them makes the poll's void, so that the master answers the poll at once.
 */
export class Exchange {
  readonly #options: ExchangeOptions;
  #outbox: TaskResult[] = [];
  #sending: TaskResult[] = [];
  #pushing: AbortController | undefined;
  #poll: Poll | undefined;
  /** Polls whose offer is void and whose answer is due. */
  readonly #voided = new Set<Poll>();
  #number = 0n;
  #offerNumber = 0n;
  #withdrawn = false;
  #paused = false;
  #batch = batchResults;
  #failures = 0;
  #retryTimer: NodeJS.Timeout | undefined;
  #scheduled = false;
  #closed = false;
  readonly #settled = new Waiters();

  constructor(options: ExchangeOptions) {
    this.#options = options;
  }

  /** Hands a result in, with the next exchange, and again until the master has answered for it. */
  add(result: TaskResult): void {
    this.#outbox.push(result);
    this.kick();
  }

  /** Something changed: look, once this turn of the loop is over, what is to be sent. */
  kick(): void {
    if (!this.#scheduled && !this.#closed) {
      this.#scheduled = true;
      // Not at once: tasks that end in microtasks of this turn go along, and a poll is not opened for nothing.
      setImmediate(() => {
        this.#scheduled = false;
        this.#next();
      });
    }
  }

  /** Ends the pause after a failure: the master is known to answer again. */
  retryNow(): void {
    if (this.#retryTimer !== undefined) {
      clearTimeout(this.#retryTimer);
      this.#retryTimer = undefined;
      this.kick();
    }
  }

  /**
   * Opens a new poll in place of one that asks for work: what is granted from now on answers a call of now. The older one's offer is
   * void by the newer, and its answer is waited for: cut off, it would lose what it brings.
   */
  renewPoll(): void {
    if (this.#poll?.offers === true) {
      this.#voided.add(this.#poll);
      this.#poll = undefined;
      this.kick();
    }
  }

  /** Offers nothing from now on; an offer that a poll has made is taken back. Orders are still listened for. */
  withdraw(): void {
    this.#withdrawn = true;
    this.kick();
  }

  /** Offers nothing while it is paused; an offer that a poll has made is taken back. */
  set paused(paused: boolean) {
    if (paused !== this.#paused) {
      this.#paused = paused;
      this.kick();
    }
  }

  /** Resolves when every result has been answered for, and no offer is open. */
  async whenSettled(): Promise<void> {
    while (!this.#closed && (this.#outbox.length > 0 || this.#pushing !== undefined || this.#poll?.offers === true)) {
      await this.#settled.wait();
    }
  }

  /** Ends what is under way. Gives the results that the master has not answered for. */
  close(): TaskResult[] {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    this.#pushing?.abort();
    this.#poll?.abort.abort();
    for (const poll of this.#voided) {
      poll.abort.abort();
    }
    this.#settled.wake();
    return [...this.#sending, ...this.#outbox];
  }

  get #offersNothing(): boolean {
    return this.#withdrawn || this.#paused;
  }

  #next(): void {
    if (this.#closed || this.#pushing !== undefined || this.#retryTimer !== undefined) {
      return;
    }
    if (this.#outbox.length > 0 || (this.#offersNothing && this.#poll?.offers === true)) {
      void this.#push();
      return;
    }
    const wanted = this.#offersNothing ? 0 : this.#options.wanted();
    if (this.#poll === undefined) {
      void this.#longPoll(wanted);
    } else if (wanted > 0 && !this.#poll.offers) {
      // It has offered nothing, so no lease can be lost with its answer; orders are repeated.
      this.#poll.abort.abort(overtaken);
      void this.#longPoll(wanted);
    }
  }

  async #push(): Promise<void> {
    this.#sending = this.#takeBatch();
    const wanted = this.#offersNothing ? 0 : this.#options.wanted();
    const takesBack = this.#poll?.offers === true;
    const abort = new AbortController();
    this.#pushing = abort;
    const request = this.#request(wanted, 0, wanted > 0 || takesBack);
    request.results = this.#sending;
    if (this.#poll !== undefined && takesBack) {
      this.#voided.add(this.#poll);
      this.#poll = undefined;
    }
    const sentMs = monotonicMs();
    try {
      const response = await this.#options.call(request, { timeoutMs: answerTimeoutMs, signal: abort.signal });
      if (this.#closed) {
        return;
      }
      const answered = this.#sending;
      this.#sending = [];
      this.#pushing = undefined;
      this.#batch = batchResults;
      this.#refuse(response.refused, answered);
      this.#options.onSettled(answered);
      this.#take(response, { asked: wanted }, sentMs);
    } catch (error) {
      this.#outbox = [...this.#sending, ...this.#outbox];
      const sent = this.#sending.length;
      this.#sending = [];
      this.#pushing = undefined;
      this.#failed(ConnectError.from(error), sent);
    }
    this.#settled.wake();
  }

  async #longPoll(wanted: number): Promise<void> {
    const poll: Poll = { abort: new AbortController(), offers: wanted > 0 };
    this.#poll = poll;
    const { longPollMs } = this.#options;
    const sentMs = monotonicMs();
    try {
      const response = await this.#options.call(this.#request(wanted, longPollMs, poll.offers), {
        timeoutMs: longPollMs + answerTimeoutMs,
        signal: poll.abort.signal,
      });
      this.#forget(poll);
      if (!this.#closed) {
        this.#take(response, { asked: undefined }, sentMs);
      }
    } catch (error) {
      this.#forget(poll);
      if (!poll.abort.signal.aborted) {
        this.#failed(ConnectError.from(error), 0);
      }
    }
    this.#settled.wake();
  }

  #request(wanted: number, waitMs: number, offers: boolean): ExchangeRequest {
    return create(ExchangeRequestSchema, {
      namespace: this.#options.namespace,
      sessionId: this.#options.sessionId,
      number: ++this.#number,
      offer: offers
        ? { number: ++this.#offerNumber, freeSlots: wanted, ...(wanted > 0 && this.#options.room?.()) }
        : undefined,
      waitMs,
    });
  }

  #takeBatch(): TaskResult[] {
    const count = batchLength(this.#outbox, this.#batch);
    if (count === this.#outbox.length) {
      const all = this.#outbox;
      this.#outbox = [];
      return all;
    }
    return this.#outbox.splice(0, count);
  }

  #take(response: ExchangeResponse, answer: Answer, sentMs: number): void {
    this.#failures = 0;
    if (response.orders !== undefined) {
      this.#options.onOrders(response.orders);
    }
    const isLate = response.leases.length > 0 && sentMs < this.#options.staleBefore();
    if (isLate) {
      this.#options.log.warn('answer came too late for its leases', { leases: response.leases.length });
      this.#options.onLateLeases(response.leases);
    }
    this.#options.onLeases(isLate ? [] : response.leases, answer);
    this.kick();
  }

  #refuse(refused: readonly RefusedResult[], answered: TaskResult[]): void {
    for (const { taskId, epoch, reason, message } of refused) {
      const at = answered.findIndex((result) => result.taskId === taskId && result.epoch === epoch);
      const result = answered[at];
      const fields = { task_id: taskId, lease_epoch: epoch, reason, refusal: message };
      if (reason === 'LEASE_LOST' || result === undefined || !this.#replaceable(result)) {
        this.#options.log.warn('result refused', fields);
        continue;
      }
      this.#options.log.warn('result replaced by a failure', fields);
      // Not settled: the lease is still held, and the failure goes out in the result's place.
      answered.splice(at, 1);
      this.#outbox.push(withFailure(result, `the master refused the result: ${reason} ${message}`));
    }
  }

  #replaceable(result: TaskResult): boolean {
    return result.outcome.case === 'success';
  }

  #forget(poll: Poll): void {
    this.#voided.delete(poll);
    if (this.#poll === poll) {
      this.#poll = undefined;
    }
  }

  #failed(error: ConnectError, sent: number): void {
    if (this.#closed) {
      return;
    }
    const lost = sessionRefusal(error);
    if (lost !== undefined) {
      this.#options.onSessionLost(lost);
      return;
    }
    if (error.code === Code.InvalidArgument && sent > 0) {
      this.#isolate(error, sent);
      return;
    }
    if (error.code === Code.DeadlineExceeded) {
      this.#options.onSilence();
    }
    if (this.#retryTimer !== undefined) {
      return;
    }
    const delayMs = fullJitter(++this.#failures, retry);
    const fields = {
      failures: this.#failures,
      retry_in_ms: delayMs,
      results: this.#outbox.length,
      reason: describe(error),
    };
    this.#options.log.warn('exchange failed', fields);
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined;
      this.#next();
    }, delayMs);
  }

  /** One result of a batch is not to the master's liking: halve the batch until it stands alone, then send why. */
  #isolate(error: ConnectError, sent: number): void {
    if (sent > 1) {
      this.#batch = Math.ceil(sent / 2);
      this.#options.log.warn('exchange refused', { results: sent, reason: describe(error) });
    } else {
      const result = this.#outbox.shift()!;
      const fields = { task_id: result.taskId, lease_epoch: result.epoch, reason: describe(error) };
      this.#batch = batchResults;
      if (this.#replaceable(result)) {
        this.#options.log.warn('result replaced by a failure', fields);
        this.#outbox.unshift(withFailure(result, `the master refused the result: ${error.rawMessage}`));
      } else {
        this.#options.log.error('result dropped', fields);
        this.#options.onSettled([result]);
      }
    }
    this.kick();
  }
}

/** How many of these, from the first on, go into one exchange. */
export function batchLength(results: readonly TaskResult[], limit = batchResults): number {
  let bytes = 0;
  let count = 0;
  while (count < results.length && count < limit) {
    bytes += sizeOf(results[count]!);
    // The first goes in any case.
    if (count > 0 && bytes > batchBytes) {
      break;
    }
    count++;
  }
  return count;
}

function sizeOf(result: TaskResult): number {
  switch (result.outcome.case) {
    case 'success':
      return result.outcome.value.output.length + resultOverheadBytes;
    case 'failure':
      return (result.outcome.value.message.length + result.outcome.value.stack.length) * 3 + resultOverheadBytes;
    default:
      return resultOverheadBytes;
  }
}

function withFailure(result: TaskResult, message: string): TaskResult {
  const failure = { type: FailureType.EVALUATION_ERROR, message, nonRetryable: true };
  return { ...result, outcome: failureOutcome(failure) };
}
