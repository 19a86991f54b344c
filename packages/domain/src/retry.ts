import type { Failure, FailureType } from './failure.ts';

/** The right to be tried again. Source of the defaults: three retries after 5, 10 and 20 s. */
export interface RetryPolicy {
  /** Attempts in all, the first included; those charged to another budget (see `budgetOf`) are not counted. */
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

/** Tries again on a machine with more memory. */
export const MEMORY_RETRIES = 1;

/** Delay after the second loss of a worker with the same task, ms; it doubles. After the first there is none. */
export const CRASH_DELAY_MS = 1_000;
export const MAX_CRASH_DELAY_MS = 60_000;

/** Longest delay that a task may ask for, ms: 30 days. */
export const MAX_RETRY_AFTER_MS = 30 * 86_400_000;

/**
 * What an attempt that did not succeed is charged to. `application`: the task's own code or time, by the policy's maximum.
 * `crash`: the worker was lost, without limit but for poison. `infra`: a live worker says that the network or a device failed; as
 * many as the policy allows, but counted apart. `memory`: once, on a bigger machine. `none`: handed back.
 */
export const BUDGETS = ['none', 'application', 'crash', 'infra', 'memory'] as const;
export type Budget = (typeof BUDGETS)[number];

export function budgetOf(type: FailureType): Exclude<Budget, 'none'> {
  switch (type) {
    case 'WORKER_CRASH':
      return 'crash';
    case 'NETWORK_ERROR':
    case 'GPU_ERROR':
      return 'infra';
    case 'OUT_OF_MEMORY':
      return 'memory';
    default:
      return 'application';
  }
}

/** What a task's attempts before the present one were charged to. */
export interface AttemptCounts {
  /** Number of the attempt that just ended, 1 for the first. */
  attempt: number;
  crashes: number;
  infra: number;
  ooms: number;
  /** Lost with their workers, and forgotten since, because the task has made progress. Absent: none. */
  forgiven?: number;
}

export type RetryDecision =
  | {
      retry: true;
      budget: Budget;
      /** 0: at once. */
      delayMs: number;
      /** Only on a machine with more memory than the one that failed. */
      needsMoreMemory: boolean;
    }
  | { retry: false; budget: Budget; because: 'non_retryable' | 'exhausted' | 'poison' };

/** The delay after the n-th failure of a budget (1 for the first), ms. `random` is in [0, 1). */
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
  const budget = budgetOf(failure.type);
  if (failure.nonRetryable) return { retry: false, budget, because: 'non_retryable' };
  if (budget === 'crash') return decideLost(counts, random, policy.jitter);
  const failures =
    budget === 'infra'
      ? counts.infra + 1
      : budget === 'memory'
        ? counts.ooms + 1
        : counts.attempt - counts.crashes - counts.infra - counts.ooms - (counts.forgiven ?? 0);
  if (failures >= (budget === 'memory' ? MEMORY_RETRIES + 1 : policy.maxAttempts))
    return { retry: false, budget, because: 'exhausted' };
  const delayMs =
    failure.retryAfterMs !== undefined
      ? Math.min(MAX_RETRY_AFTER_MS, Math.max(0, Math.round(failure.retryAfterMs)))
      : retryDelayMs(policy, failures, random);
  return { retry: true, budget, delayMs, needsMoreMemory: budget === 'memory' };
}

/** What follows when the worker was lost that held the task. */
export function decideLost(counts: AttemptCounts, random = 0, jitter = 0): RetryDecision {
  const losses = counts.crashes + 1;
  if (losses >= POISON_CRASHES) return { retry: false, budget: 'crash', because: 'poison' };
  const exact = losses === 1 ? 0 : Math.min(MAX_CRASH_DELAY_MS, CRASH_DELAY_MS * 2 ** (losses - 2));
  return { retry: true, budget: 'crash', delayMs: Math.round(exact * (1 - jitter * random)), needsMoreMemory: false };
}
