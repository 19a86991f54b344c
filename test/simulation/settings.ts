import type { RetryPolicy } from '@baton/domain';

/** Times in ms: small, so that much happens in a minute of virtual time. */
export const SETTINGS = {
  leaseTtlMs: 5_000,
  heartbeatIntervalMs: 1_500,
  /** Heartbeats that were answered from memory are written so much later. */
  writeBehindMs: 900,
  longPollMs: 4_000,
  answerTimeoutMs: 2_000,
  sweepIntervalMs: 1_000,
  drainGraceMs: 1_500,
  farewellMs: 1_000,
  abortGraceMs: 500,
  idempotencyTtlMs: 86_400_000,
  batchRows: 50,
} as const;

export const RETRY: RetryPolicy = { maxAttempts: 4, initialDelayMs: 400, factor: 2, maxDelayMs: 3_000, jitter: 0.2 };
