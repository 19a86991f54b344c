import type { SubmitTaskResponse, SubmitTasksResponse, TaskSpec } from '@baton/contract';
import { type CallOptions, canceled, outOfTime, pauseBeforeRetry, type RetryTiming } from './call.ts';
import { BatonError, codeFromName, toBatonError } from './error.ts';

/** The two calls that submits are sent with. */
export interface SubmitCalls {
  readonly one: (task: TaskSpec, signal: AbortSignal) => Promise<SubmitTaskResponse>;
  readonly many: (tasks: TaskSpec[], signal: AbortSignal) => Promise<SubmitTasksResponse>;
}

export interface GatherLimits {
  /** Tasks in one call. */
  readonly maxItems: number;
  /** Bytes of input and text in one call. */
  readonly maxBytes: number;
  /** Calls under way at once; while all are, submits gather for the next. */
  readonly maxCalls: number;
}

export const GATHER_LIMITS: GatherLimits = { maxItems: 1_000, maxBytes: 3 * 1024 * 1024, maxCalls: 4 };

interface Waiting {
  readonly task: TaskSpec;
  readonly bytes: number;
  failures: number;
  isSettled: boolean;
  /** Set while a call is under way. */
  onLeft: (() => void) | undefined;
  settle(outcome: SubmitTaskResponse | BatonError): void;
}

/**
 * Gathers the submits of one tick into one call: a call costs about half a millisecond, a task in it a few microseconds.
 * Each submit keeps its own answer or error, and its own signal: leaving early does not touch the others.
 */
export class SubmitGatherer {
  readonly #calls: SubmitCalls;
  readonly #retry: RetryTiming;
  readonly #limits: GatherLimits;
  #waiting: Waiting[] = [];
  #callsUnderWay = 0;
  #isFlushDue = false;

  constructor(calls: SubmitCalls, retry: RetryTiming, limits: GatherLimits = GATHER_LIMITS) {
    this.#calls = calls;
    this.#retry = retry;
    this.#limits = limits;
  }

  /** Rejects with `BatonError`. `timeoutMs` counts from now on, the gathering included. */
  submit(task: TaskSpec, options: Required<Pick<CallOptions, 'timeoutMs'>> & CallOptions): Promise<SubmitTaskResponse> {
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
      const waiting: Waiting = {
        task,
        bytes: sizeOf(task),
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

  #enqueue(waiting: Waiting): void {
    this.#waiting.push(waiting);
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    // The end of the microtasks: whatever the same tick submits, also behind an `await` that was settled, is in.
    queueMicrotask(() => {
      this.#isFlushDue = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (this.#callsUnderWay < this.#limits.maxCalls) {
      const batch = this.#takeBatch();
      if (batch.length === 0) return;
      this.#callsUnderWay += 1;
      void this.#send(batch).finally(() => {
        this.#callsUnderWay -= 1;
        this.#flush();
      });
    }
  }

  #takeBatch(): Waiting[] {
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
  async #send(batch: Waiting[]): Promise<void> {
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
        unsettled[0]!.settle(await this.#calls.one(unsettled[0]!.task, leave.signal));
        return;
      }
      const { results } = await this.#calls.many(
        unsettled.map((waiting) => waiting.task),
        leave.signal,
      );
      for (const [index, waiting] of unsettled.entries()) waiting.settle(outcomeOf(results[index]?.result));
    } catch (thrown) {
      await this.#sendAgain(unsettled, toBatonError(thrown));
    }
  }

  async #sendAgain(batch: Waiting[], error: BatonError): Promise<void> {
    if (error.code === 'invalid_argument' && batch.length > 1) {
      // The call was refused as a whole, nothing is stored: find the bad ones, let the others through.
      const middle = batch.length >> 1;
      await this.#send(batch.slice(0, middle));
      await this.#send(batch.slice(middle));
      return;
    }
    const again: Waiting[] = [];
    for (const waiting of batch) {
      waiting.failures += 1;
      // Without a key nobody knows whether the call stored the task before it broke: a second one could make a second.
      const mayRepeat = error.code === 'unavailable' && waiting.task.idempotencyKey !== '';
      if (mayRepeat && waiting.failures < this.#retry.attempts) again.push(waiting);
      else waiting.settle(error);
    }
    if (again.length === 0) return;
    await pauseBeforeRetry(this.#retry, again[0]!.failures, error, undefined);
    await this.#send(again);
  }
}

function outcomeOf(
  result: SubmitTasksResponse['results'][number]['result'] | undefined,
): SubmitTaskResponse | BatonError {
  switch (result?.case) {
    case 'submitted':
      return result.value;
    case 'refused':
      return new BatonError({
        code: codeFromName(result.value.code),
        reason: result.value.reason,
        message: result.value.message,
      });
    default:
      return new BatonError({
        code: 'internal',
        reason: 'ANSWER_MISSING',
        message: 'the server gave no answer for this task',
      });
  }
}

/** An upper bound of what the task takes on the wire, near enough and without encoding it twice. */
function sizeOf(task: TaskSpec): number {
  // All that is not input is names and numbers; a UTF-16 unit is at most 3 bytes of UTF-8.
  let bytes = 200 + 3 * (task.kind.length + task.queue.length + task.idempotencyKey.length);
  for (const tag of task.tags) bytes += 3 * tag.length + 4;
  for (const [key, value] of Object.entries(task.labels)) bytes += 3 * (key.length + value.length) + 8;
  if (task.executor.case === 'grpc') {
    bytes += 3 * (task.executor.value.address.length + task.executor.value.method.length);
    for (const [key, value] of Object.entries(task.executor.value.metadata))
      bytes += 3 * (key.length + value.length) + 8;
  }
  if (task.payload.case === 'inputJson') bytes += new TextEncoder().encode(task.payload.value).length;
  else if (task.payload.case === 'inputBytes') bytes += task.payload.value.length;
  return bytes;
}
