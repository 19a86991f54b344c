import { FailureType } from '@baton/contract';
import type { FailureReport } from '@baton/runtime';

/** Types that a task may give to its failure. The others are for the worker and the master to say. */
const own: ReadonlyMap<unknown, FailureType> = new Map([
  ['NETWORK_ERROR', FailureType.NETWORK_ERROR],
  ['GPU_ERROR', FailureType.GPU_ERROR],
  ['OUT_OF_MEMORY', FailureType.OUT_OF_MEMORY],
  ['UNKNOWN', FailureType.UNKNOWN],
]);

/**
 * What a task threw, as a failure of its own code. `NonRetryable`, `RetryAfter` and `AttemptFailure` of the client are known by name;
 * other errors may say `nonRetryable: true`.
 * Anything can be thrown, and this must not throw itself.
 */
export function failureOfError(thrown: unknown): FailureReport {
  if (!(thrown instanceof Error)) {
    return { type: FailureType.EVALUATION_ERROR, message: `thrown: ${show(thrown)}`, exceptionType: typeof thrown };
  }
  const { name, message, stack } = thrown;
  const isTyped = name === 'AttemptFailure';
  const device = isTyped && 'device' in thrown && typeof thrown.device === 'string' ? thrown.device : undefined;
  return {
    type: (isTyped && 'type' in thrown ? own.get(thrown.type) : undefined) ?? FailureType.EVALUATION_ERROR,
    ...(device !== undefined && { device }),
    message: message === '' ? name : message,
    exceptionType: name,
    stack,
    nonRetryable: name === 'NonRetryable' || ('nonRetryable' in thrown && thrown.nonRetryable === true),
    retryAfterMs: name === 'RetryAfter' || isTyped ? delayOf(thrown) : undefined,
  };
}

function delayOf(error: Error): number | undefined {
  const delayMs = 'delayMs' in error ? error.delayMs : undefined;
  return typeof delayMs === 'number' && Number.isFinite(delayMs) ? delayMs : undefined;
}

function show(value: unknown): string {
  try {
    return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  } catch {
    return 'a value that cannot be shown';
  }
}
