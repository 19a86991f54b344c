/**
 * What many callers do at once, done in one statement for all.
 *
 * The first item waits for the end of the tick (or `gatherMs`), so that what arrives together goes together; while a batch is under
 * way the next one gathers. Nothing waits for a full batch.
 */
export interface Coalescer<T, R> {
  add(item: T): Promise<R>;
  /** Batches that are under way or gathering are done. */
  idle(): Promise<void>;
}

export interface CoalescerOptions<T, R> {
  /** Carries a batch out; answers in its order. May throw: then every caller of the batch gets the error. */
  run(batch: T[]): Promise<R[]>;
  maxItems: number;
  maxBytes?: number;
  sizeOf?(item: T): number;
  /** Batches under way at once. Default 1. */
  inFlight?: number;
  /** Gather this long before a batch starts, ms. Default 0: the rest of the tick. */
  gatherMs?: number;
  /** How the rest of the tick is waited for; see EngineEnvironment. Default: a timer of 0 ms. */
  endOfTurn?: (step: () => void) => unknown;
  /** When items are refused rather than kept waiting. Default: never. */
  shed?: Shedding;
}

export interface Shedding {
  /** No more items wait than this, */
  maxWaiting: number;
  /** nor more bytes of them. */
  maxWaitingBytes: number;
  /** As many batches as may be under way have been so for this long: what comes now would only wait behind them, ms. */
  stuckMs: number;
  refusal(): Error;
}

export function createCoalescer<T, R>(options: CoalescerOptions<T, R>): Coalescer<T, R> {
  const { run, maxItems, maxBytes = Number.POSITIVE_INFINITY, sizeOf = () => 0, inFlight = 1, gatherMs = 0 } = options;
  const { endOfTurn = (step: () => void) => setTimeout(step, 0), shed } = options;
  type Waiting = { item: T; resolve(result: R): void; reject(error: unknown): void };
  let gathering: Waiting[] = [];
  let running = 0;
  let scheduled = false;
  let onIdle: (() => void)[] = [];
  let waitingBytes = 0;
  /** When each batch under way began, the oldest first. */
  const begun = new Set<{ at: number }>();

  const mustRefuse = (): boolean => {
    if (!shed) return false;
    if (gathering.length >= shed.maxWaiting || waitingBytes >= shed.maxWaitingBytes) return true;
    if (running < inFlight) return false;
    const [oldest] = begun;
    return oldest !== undefined && performance.now() - oldest.at >= shed.stuckMs;
  };

  const schedule = () => {
    if (scheduled || running >= inFlight || gathering.length === 0) return;
    scheduled = true;
    if (gatherMs > 0) setTimeout(start, gatherMs);
    else endOfTurn(start);
  };

  const start = () => {
    scheduled = false;
    if (running >= inFlight || gathering.length === 0) return;
    let count = 0;
    let bytes = 0;
    while (count < gathering.length && count < maxItems) {
      const size = sizeOf(gathering[count]!.item);
      if (count > 0 && bytes + size > maxBytes) break;
      bytes += size;
      count++;
    }
    waitingBytes -= bytes;
    const batchBegun = { at: performance.now() };
    begun.add(batchBegun);
    const batch = gathering.slice(0, count);
    gathering = gathering.slice(count);
    running++;
    run(batch.map((w) => w.item))
      .then(
        (results) => {
          for (let i = 0; i < batch.length; i++) batch[i]!.resolve(results[i]!);
        },
        (error) => {
          for (const waiting of batch) waiting.reject(error);
        },
      )
      .finally(() => {
        running--;
        begun.delete(batchBegun);
        if (gathering.length > 0) start();
        else if (running === 0) {
          const waiters = onIdle;
          onIdle = [];
          for (const resolve of waiters) resolve();
        }
      });
    schedule();
  };

  return {
    add(item) {
      if (mustRefuse()) return Promise.reject(shed!.refusal());
      waitingBytes += sizeOf(item);
      return new Promise<R>((resolve, reject) => {
        gathering.push({ item, resolve, reject });
        // A whole batch need not wait for the rest of the tick: Postgres begins with it while the others are being made ready.
        if (gathering.length >= maxItems && gatherMs === 0) start();
        else schedule();
      });
    },
    idle() {
      if (running === 0 && gathering.length === 0) return Promise.resolve();
      return new Promise((resolve) => onIdle.push(resolve));
    },
  };
}
