import { FailureType } from '@baton/contract';
import type { FailureReport } from '@baton/runtime';

/**
 * What a task threw, as a failure of its own code. `NonRetryable` and `RetryAfter` of the client are known by name; other errors may
 * say `nonRetryable: true`.
 * Anything can be thrown, and this must not throw itself.
 */
export function failureOfError(thrown: unknown): FailureReport {
  if (!(thrown instanceof Error)) {
    return { type: FailureType.EVALUATION_ERROR, message: `thrown: ${show(thrown)}`, exceptionType: typeof thrown };
  }
  const { name, message, stack } = thrown;
  return {
    type: FailureType.EVALUATION_ERROR,
    message: message === '' ? name : message,
    exceptionType: name,
    stack,
    nonRetryable: name === 'NonRetryable' || ('nonRetryable' in thrown && thrown.nonRetryable === true),
    retryAfterMs: name === 'RetryAfter' ? delayOf(thrown) : undefined,
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
