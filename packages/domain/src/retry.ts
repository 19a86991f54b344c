import type { Failure } from './failure.ts';

/** The right to be tried again. Source of the defaults: three retries after 5, 10 and 20 s. */
export interface RetryPolicy {
  /** Attempts in all, the first included; attempts lost with their worker are not counted. */
  maxAttempts: number;
  initialDelayMs: number;
  factor: number;
  maxDelayMs: number;
  /** Share of each delay that is random, 0 to 1. */
  jitter: number;
}

export const DEFAULT_RETRY: Readonly<RetryPolicy> = {
  maxAttempts: 4,
  initialDelayMs: 5_000,
  factor: 2,
  maxDelayMs: 3_600_000,
  jitter: 0,
};

/** A task that took this many workers with it is poison: it is failed, so that the queue goes on. */
export const POISON_CRASHES = 5;

/** Longest delay that a task may ask for, ms: 30 days. */
export const MAX_RETRY_AFTER_MS = 30 * 86_400_000;

export interface AttemptCounts {
  /** Number of the attempt that just failed, 1 for the first. */
  attempt: number;
  /** How many of the attempts so far were lost with their worker. */
  crashes: number;
}

export type RetryDecision = { retry: true; delayMs: number } | { retry: false; because: 'non_retryable' | 'exhausted' };

/** The delay after the n-th counted failure (1 for the first), ms. `random` is in [0, 1). */
export function retryDelayMs(policy: RetryPolicy, failures: number, random: number): number {
  const exact = Math.min(policy.maxDelayMs, policy.initialDelayMs * policy.factor ** (failures - 1));
  return Math.round(exact * (1 - policy.jitter * random));
}

/** What follows a failed attempt. Pure: the random number is an argument. */
export function decideRetry(
  policy: RetryPolicy,
  counts: AttemptCounts,
  failure: Failure,
  random: number,
): RetryDecision {
  if (failure.nonRetryable) return { retry: false, because: 'non_retryable' };
  const failures = counts.attempt - counts.crashes;
  if (failures >= policy.maxAttempts) return { retry: false, because: 'exhausted' };
  if (failure.retryAfterMs !== undefined)
    return { retry: true, delayMs: Math.min(MAX_RETRY_AFTER_MS, Math.max(0, Math.round(failure.retryAfterMs))) };
  return { retry: true, delayMs: retryDelayMs(policy, failures, random) };
}
