import type { Run, WaitRunsResponse } from '@baton/contract';
import { canceled, isPassing, pauseBeforeRetry, type RetryTiming } from './call.ts';
import { BatonError, toBatonError } from './error.ts';

/** Asks for the ends of some runs; answers when one of them at least has ended, or after a while without any. */
export type WaitCall = (runIds: string[], signal: AbortSignal) => Promise<WaitRunsResponse>;

/** Runs in one call, as in the contract. */
const MAX_RUNS = 1_000;
/** Calls under way at once; a browser has six connections in all. */
const MAX_CALLS = 4;
/** So long those who come wait for a call to return before one is broken off for them: over HTTP/1.1 that costs a connection. */
const PATIENCE_MS = 10;

interface Waiting {
  readonly runId: string;
  settle(outcome: Run | BatonError): void;
}

interface Call {
  readonly waiting: Set<Waiting>;
  readonly abort: AbortController;
}

/**
 * Waits for the ends of runs, for all handles of a client together: a call costs about half a millisecond, a run in it next to nothing.
 * Who comes while all calls are under way goes with the next one; when none returns soon, with the one that waits for the fewest, which
 * is asked anew.
 */
export class RunEnds {
  readonly #call: WaitCall;
  readonly #retry: RetryTiming;
  readonly #calls = new Set<Call>();
  #coming: Waiting[] = [];
  #isDue = false;
  #patience: ReturnType<typeof setTimeout> | undefined;

  constructor(call: WaitCall, retry: RetryTiming) {
    this.#call = call;
    this.#retry = retry;
  }

  /** The run as it ended, without nodes. Rejects with `BatonError`: not_found, canceled by its signal, or what the server says. */
  wait(runId: string, signal?: AbortSignal): Promise<Run> {
    if (signal?.aborted) return Promise.reject(canceled(signal.reason));
    return new Promise((resolve, reject) => {
      const onAbort = () => waiting.settle(canceled(signal?.reason));
      const waiting: Waiting = {
        runId,
        settle: (outcome) => {
          signal?.removeEventListener('abort', onAbort);
          this.#leave(waiting);
          if (outcome instanceof BatonError) reject(outcome);
          else resolve(outcome);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#coming.push(waiting);
      this.#due();
    });
  }

  #due(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    // Whatever the same tick asks for is in.
    queueMicrotask(() => {
      this.#isDue = false;
      this.#begin();
    });
  }

  #begin(): void {
    while (this.#calls.size < MAX_CALLS && this.#coming.length > (this.#calls.size === 0 ? 0 : MAX_RUNS))
      this.#askForComing();
    if (this.#coming.length > 0) this.#patience ??= setTimeout(() => this.#makeRoom(), PATIENCE_MS);
  }

  #askForComing(): void {
    void this.#ask({ waiting: new Set(this.#coming.splice(0, MAX_RUNS)), abort: new AbortController() });
  }

  /** No call has returned for those who have come: one more is made, or one is broken off. */
  #makeRoom(): void {
    this.#patience = undefined;
    if (this.#coming.length === 0) return;
    if (this.#calls.size < MAX_CALLS) {
      this.#askForComing();
      this.#begin();
    } else this.#breakOff();
  }

  #breakOff(): void {
    const [fewest] = [...this.#calls].sort((a, b) => a.waiting.size - b.waiting.size);
    if (fewest) {
      this.#calls.delete(fewest);
      this.#coming.push(...fewest.waiting);
      fewest.waiting.clear();
      fewest.abort.abort();
    }
    this.#askForComing();
    this.#begin();
  }

  /** Never rejects: what goes wrong goes to those who wait. */
  async #ask(call: Call): Promise<void> {
    this.#calls.add(call);
    let since = performance.now();
    for (let failures = 0; call.waiting.size > 0; ) {
      try {
        const runIds = [...new Set([...call.waiting].map(({ runId }) => runId))];
        const { runs, missing } = await this.#call(runIds, call.abort.signal);
        failures = 0;
        const ended = new Map(runs.map((run) => [run.id, run]));
        for (const waiting of [...call.waiting]) {
          const run = ended.get(waiting.runId);
          if (run) waiting.settle(run);
          else if (missing.includes(waiting.runId)) waiting.settle(notFound(waiting.runId));
        }
        // Those who came meanwhile are asked for together with the rest.
        if (runs.length > 0 || this.#coming.length > 0) break;
      } catch (thrown) {
        if (call.abort.signal.aborted) return;
        const error = toBatonError(thrown);
        if (failures++ === 0) since = performance.now();
        if (!isPassing(error) || performance.now() - since > this.#retry.reconnectMs) {
          for (const waiting of [...call.waiting]) waiting.settle(error);
          break;
        }
        await pauseBeforeRetry(this.#retry, failures, error, undefined);
      }
    }
    if (!this.#calls.delete(call)) return;
    const rest = [...call.waiting];
    call.waiting.clear();
    this.#coming.push(...rest);
    this.#due();
  }

  #leave(waiting: Waiting): void {
    this.#coming = this.#coming.filter((other) => other !== waiting);
    for (const call of this.#calls) {
      if (!call.waiting.delete(waiting) || call.waiting.size > 0) continue;
      // Nobody waits for it any more.
      this.#calls.delete(call);
      call.abort.abort();
    }
  }
}

function notFound(runId: string): BatonError {
  return new BatonError({ code: 'not_found', reason: 'RUN_NOT_FOUND', message: `there is no run ${runId}` });
}
