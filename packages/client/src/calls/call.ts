import { BatonError, toBatonError } from './error.ts';
import { delay } from './time.ts';

/** Options of every call. */
export interface CallOptions {
  /** Ends the call; it rejects with `BatonError` code canceled. */
  readonly signal?: AbortSignal;
  /** Limit of each request to the server in milliseconds; default the client's `timeoutMs`. */
  readonly timeoutMs?: number;
}

/** How reads are repeated while the server is unavailable or overloaded. Submits are repeated in this way only with an idempotency key. */
export interface RetryTiming {
  /** Tries in all, the first included. Default 4. */
  readonly attempts: number;
  /** The wait before try n+1 is random between 0 and base × 2^(n−1). Default 200 ms. */
  readonly baseDelayMs: number;
  /** No wait is longer. Default 5 s. */
  readonly maxDelayMs: number;
  /** How long a watch that was connected once, or a `result()` of a task that the server knows, tries to connect again. Default 60 s. */
  readonly reconnectMs: number;
}

export const DEFAULT_RETRY: RetryTiming = { attempts: 4, baseDelayMs: 200, maxDelayMs: 5_000, reconnectMs: 60_000 };

/** What every part of a client is made of. */
export interface CallSettings {
  readonly namespace: string;
  readonly timeoutMs: number;
  readonly retry: RetryTiming;
}

/** The options of one request, as Connect's clients take them. */
export function requestOptions(settings: CallSettings, options: CallOptions | undefined, extraMs = 0): CallOptions {
  return { signal: options?.signal, timeoutMs: (options?.timeoutMs ?? settings.timeoutMs) + extraMs };
}

/** A request that changes something: sent once. */
export async function callOnce<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (thrown) {
    throw toBatonError(thrown);
  }
}

/** Whether the same request may well be answered a moment later: nobody was reached, or too many ask at once. */
export function isPassing(error: BatonError): boolean {
  return error.code === 'unavailable' || error.reason === 'OVERLOADED';
}

/** A request that may be repeated without harm: again while the server is unavailable or overloaded, a few times. */
export async function callRepeatably<T>(
  settings: CallSettings,
  options: CallOptions | undefined,
  request: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await request();
    } catch (thrown) {
      const error = toBatonError(thrown);
      if (!isPassing(error) || attempt >= settings.retry.attempts) throw error;
      await pauseBeforeRetry(settings.retry, attempt, error, options?.signal);
    }
  }
}

/** Full jitter, so that the clients of a server that restarted do not come back together; a server's own wish counts. */
export async function pauseBeforeRetry(
  retry: RetryTiming,
  failures: number,
  error: BatonError,
  signal: AbortSignal | undefined,
): Promise<void> {
  const ceilingMs = Math.min(retry.maxDelayMs, retry.baseDelayMs * 2 ** (failures - 1));
  const waitMs = (error.retryAfterMs ?? 0) + Math.random() * ceilingMs;
  try {
    await delay(waitMs, signal);
  } catch (reason) {
    throw canceled(reason);
  }
}

/** The error of a call that its own signal ended. */
export function canceled(reason: unknown): BatonError {
  if (reason instanceof Error && reason.name === 'TimeoutError') return outOfTime(reason);
  return new BatonError({ code: 'canceled', message: 'the call was cancelled by its signal', cause: reason });
}

/** The error of a call whose time is over. */
export function outOfTime(cause?: unknown): BatonError {
  return new BatonError({ code: 'deadline_exceeded', message: 'the time given for the call is over', cause });
}
