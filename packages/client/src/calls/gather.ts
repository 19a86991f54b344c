import { type CallOptions, canceled, outOfTime, pauseBeforeRetry, type RetryTiming } from './call.ts';
import { BatonError, codeFromName, toBatonError } from './error.ts';

/** What is gathered: how it is sent, alone or many at once, and how large it is on the wire. */
export interface GatherCalls<Item, Answer> {
  readonly one: (item: Item, signal: AbortSignal) => Promise<Answer>;
  /** Answers in the order asked; undefined where the server gave none. */
  readonly many: (items: Item[], signal: AbortSignal) => Promise<readonly (Answer | BatonError | undefined)[]>;
  /** An upper bound, near enough and without encoding it twice. */
  readonly sizeOf: (item: Item) => number;
}

export interface GatherLimits {
  /** Items in one call. */
  readonly maxItems: number;
  /** Bytes of input and text in one call. */
  readonly maxBytes: number;
  /** Calls under way at once; while all are, what comes gathers for the next. */
  readonly maxCalls: number;
  /** So long a call waits for one under way to return before it is made beside it, ms. Default 0. */
  readonly patienceMs?: number;
}

export const GATHER_LIMITS: GatherLimits = { maxItems: 1_000, maxBytes: 3 * 1024 * 1024, maxCalls: 4 };

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly bytes: number;
  failures: number;
  isSettled: boolean;
  /** Set while a call is under way. */
  onLeft: (() => void) | undefined;
  settle(outcome: Answer | BatonError): void;
}

/**
 * Gathers what is to be sent in one tick into one call: a call costs about half a millisecond, an item in it a few microseconds.
 * Each keeps its own answer or error, and its own signal: leaving early does not touch the others.
 */
export class Gatherer<Item extends { readonly idempotencyKey: string }, Answer> {
  readonly #calls: GatherCalls<Item, Answer>;
  readonly #retry: RetryTiming;
  readonly #limits: GatherLimits;
  #waiting: Waiting<Item, Answer>[] = [];
  #callsUnderWay = 0;
  #isFlushDue = false;
  #patience: ReturnType<typeof setTimeout> | undefined;

  constructor(calls: GatherCalls<Item, Answer>, retry: RetryTiming, limits: GatherLimits = GATHER_LIMITS) {
    this.#calls = calls;
    this.#retry = retry;
    this.#limits = limits;
  }

  /** Rejects with `BatonError`. `timeoutMs` counts from now on, the gathering included. */
  send(item: Item, options: Required<Pick<CallOptions, 'timeoutMs'>> & CallOptions): Promise<Answer> {
    const { signal, timeoutMs } = options;
    if (signal?.aborted) return Promise.reject(canceled(signal.reason));
    return new Promise((resolve, reject) => {
      const leave = (error: BatonError): void => {
        waiting.settle(error);
        waiting.onLeft?.();
      };
      const onAbort = (): void => leave(canceled(signal?.reason));
      // A timer and no AbortSignal.timeout: that one lives on after the answer, 30 s for each of a million submits.
      const timer = setTimeout(() => leave(outOfTime()), timeoutMs);
      const waiting: Waiting<Item, Answer> = {
        item,
        bytes: this.#calls.sizeOf(item),
        failures: 0,
        isSettled: false,
        onLeft: undefined,
        settle: (outcome) => {
          if (waiting.isSettled) return;
          waiting.isSettled = true;
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          if (outcome instanceof BatonError) reject(outcome);
          else resolve(outcome);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#enqueue(waiting);
    });
  }

  #enqueue(waiting: Waiting<Item, Answer>): void {
    this.#waiting.push(waiting);
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    // The end of the microtasks: whatever the same tick submits, also behind an `await` that was settled, is in.
    queueMicrotask(() => {
      this.#isFlushDue = false;
      this.#flush();
    });
  }

  #flush(isPatient = true): void {
    const { maxCalls, patienceMs = 0 } = this.#limits;
    while (this.#callsUnderWay < maxCalls) {
      if (isPatient && patienceMs > 0 && this.#callsUnderWay > 0) {
        if (this.#waiting.length > 0) this.#beImpatient(patienceMs);
        return;
      }
      const batch = this.#takeBatch();
      if (batch.length === 0) return;
      this.#callsUnderWay += 1;
      void this.#send(batch).finally(() => {
        this.#callsUnderWay -= 1;
        clearTimeout(this.#patience);
        this.#patience = undefined;
        this.#flush();
      });
    }
  }

  #beImpatient(patienceMs: number): void {
    this.#patience ??= setTimeout(() => {
      this.#patience = undefined;
      this.#flush(false);
    }, patienceMs);
  }

  #takeBatch(): Waiting<Item, Answer>[] {
    this.#waiting = this.#waiting.filter((waiting) => !waiting.isSettled);
    let count = 0;
    let bytes = 0;
    for (const waiting of this.#waiting) {
      bytes += waiting.bytes;
      // One that is over the limit alone is sent alone, and the server says what it thinks of it.
      if (count === this.#limits.maxItems || (count > 0 && bytes > this.#limits.maxBytes)) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  /** Never rejects: what goes wrong goes to those who wait. */
  async #send(batch: Waiting<Item, Answer>[]): Promise<void> {
    const leave = new AbortController();
    const unsettled = batch.filter((waiting) => !waiting.isSettled);
    if (unsettled.length === 0) return;
    // A call that nobody waits for any more is ended.
    let waitedFor = unsettled.length;
    for (const waiting of unsettled) {
      waiting.onLeft = () => {
        waitedFor -= 1;
        if (waitedFor === 0) leave.abort();
      };
    }
    try {
      if (unsettled.length === 1) {
        unsettled[0]!.settle(await this.#calls.one(unsettled[0]!.item, leave.signal));
        return;
      }
      const answers = await this.#calls.many(
        unsettled.map((waiting) => waiting.item),
        leave.signal,
      );
      for (const [index, waiting] of unsettled.entries()) waiting.settle(answers[index] ?? answerMissing());
    } catch (thrown) {
      await this.#sendAgain(unsettled, toBatonError(thrown));
    }
  }

  async #sendAgain(batch: Waiting<Item, Answer>[], error: BatonError): Promise<void> {
    if (error.code === 'invalid_argument' && batch.length > 1) {
      // The call was refused as a whole, nothing is stored: find the bad ones, let the others through.
      const middle = batch.length >> 1;
      await this.#send(batch.slice(0, middle));
      await this.#send(batch.slice(middle));
      return;
    }
    const again: Waiting<Item, Answer>[] = [];
    for (const waiting of batch) {
      waiting.failures += 1;
      // Without a key nobody knows whether the call stored it before it broke: a second one could make a second.
      const mayRepeat = error.code === 'unavailable' && waiting.item.idempotencyKey !== '';
      if (mayRepeat && waiting.failures < this.#retry.attempts) again.push(waiting);
      else waiting.settle(error);
    }
    if (again.length === 0) return;
    await pauseBeforeRetry(this.#retry, again[0]!.failures, error, undefined);
    await this.#send(again);
  }
}

/** What the server says of one item that it did not take, while it took others. */
export function refusedItem({ code, reason, message }: { code: string; reason: string; message: string }): BatonError {
  return new BatonError({ code: codeFromName(code), reason, message });
}

function answerMissing(): BatonError {
  const message = 'the server gave no answer for this one';
  return new BatonError({ code: 'internal', reason: 'ANSWER_MISSING', message });
}
