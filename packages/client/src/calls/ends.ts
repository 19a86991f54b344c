import { canceled, isPassing, pauseBeforeRetry, type RetryTiming } from './call.ts';
import { BatonError, toBatonError } from './error.ts';

/** Asks for the ends of some of one kind; answers when one of them at least has ended, or after a while without any. */
export type WaitCall<End> = (
  ids: string[],
  signal: AbortSignal,
) => Promise<{ readonly ended: ReadonlyMap<string, End>; readonly missing: readonly string[] }>;

export interface EndsOptions<End> {
  readonly call: WaitCall<End>;
  readonly retry: RetryTiming;
  /** What is said of one that is not there. */
  readonly notFound: (id: string) => BatonError;
  /** So long those who come wait for a call to return before one is broken off for them: over HTTP/1.1 that costs a connection. Default 10. */
  readonly patienceMs?: number;
}

/** Ids in one call, as in the contract. */
const MAX_IDS = 1_000;
/** Calls under way at once; a browser has six connections in all. */
const MAX_CALLS = 4;
const PATIENCE_MS = 10;
const PATIENCE_MS_EACH = 0.1;

interface Waiting<End> {
  readonly id: string;
  /** A server has spoken of it: one that restarts is no reason to give up on it. Else a few tries are all. */
  isKnown: boolean;
  settle(outcome: { readonly end: End } | BatonError): void;
}

interface Call<End> {
  readonly waiting: Set<Waiting<End>>;
  readonly abort: AbortController;
}

/**
 * Waits for the ends of tasks, or of runs, for all handles of a client together: a call costs about half a millisecond, one more in it next to nothing.
 * Who comes while all calls are under way goes with the next one; when none returns soon, with the one that waits for the fewest, which
 * is asked anew.
 */
export class Ends<End> {
  readonly #options: EndsOptions<End>;
  readonly #calls = new Set<Call<End>>();
  #coming: Waiting<End>[] = [];
  #isDue = false;
  #patience: ReturnType<typeof setTimeout> | undefined;

  constructor(options: EndsOptions<End>) {
    this.#options = options;
  }

  /**
   * Rejects with `BatonError`: not_found, canceled by its signal, or what the server says.
   *
   * @param isKnown a server has spoken of it, so that it is asked for as long as `reconnectMs` says; else a few tries are all
   */
  wait(id: string, signal?: AbortSignal, isKnown = true): Promise<End> {
    if (signal?.aborted) return Promise.reject(canceled(signal.reason));
    return new Promise((resolve, reject) => {
      const onAbort = () => waiting.settle(canceled(signal?.reason));
      const waiting: Waiting<End> = {
        id,
        isKnown,
        settle: (outcome) => {
          signal?.removeEventListener('abort', onAbort);
          this.#leave(waiting);
          if (outcome instanceof BatonError) reject(outcome);
          else resolve(outcome.end);
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
    while (this.#calls.size < MAX_CALLS && this.#coming.length > (this.#calls.size === 0 ? 0 : MAX_IDS))
      this.#askForComing();
    if (this.#coming.length > 0) this.#patience ??= setTimeout(() => this.#makeRoom(), this.#patienceMs());
  }

  #askForComing(): void {
    void this.#ask({ waiting: new Set(this.#coming.splice(0, MAX_IDS)), abort: new AbortController() });
  }

  /** Servers gather for longer where many are asked for. */
  #patienceMs(): number {
    let asked = 0;
    for (const { waiting } of this.#calls) asked = Math.max(asked, waiting.size);
    return Math.max(this.#options.patienceMs ?? PATIENCE_MS, asked * PATIENCE_MS_EACH);
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
  async #ask(call: Call<End>): Promise<void> {
    const { retry, notFound } = this.#options;
    this.#calls.add(call);
    let since = performance.now();
    for (let failures = 0; call.waiting.size > 0; ) {
      try {
        const ids = [...new Set([...call.waiting].map(({ id }) => id))];
        const { ended, missing } = await this.#options.call(ids, call.abort.signal);
        failures = 0;
        const gone = new Set(missing);
        for (const waiting of [...call.waiting]) {
          waiting.isKnown = true;
          const end = ended.get(waiting.id);
          if (end !== undefined) waiting.settle({ end });
          else if (gone.has(waiting.id)) waiting.settle(notFound(waiting.id));
        }
        // Those who came meanwhile are asked for together with the rest.
        if (ended.size > 0 || this.#coming.length > 0) break;
      } catch (thrown) {
        if (call.abort.signal.aborted) return;
        const error = toBatonError(thrown);
        if (failures++ === 0) since = performance.now();
        const isOver = !isPassing(error) || performance.now() - since > retry.reconnectMs;
        for (const waiting of [...call.waiting])
          if (isOver || (!waiting.isKnown && failures >= retry.attempts)) waiting.settle(error);
        if (call.waiting.size === 0) break;
        await pauseBeforeRetry(retry, failures, error, undefined);
      }
    }
    if (!this.#calls.delete(call)) return;
    const rest = [...call.waiting];
    call.waiting.clear();
    this.#coming.push(...rest);
    this.#due();
  }

  #leave(waiting: Waiting<End>): void {
    this.#coming = this.#coming.filter((other) => other !== waiting);
    for (const call of this.#calls) {
      if (!call.waiting.delete(waiting) || call.waiting.size > 0) continue;
      // Nobody waits for it any more.
      this.#calls.delete(call);
      call.abort.abort();
    }
  }
}
