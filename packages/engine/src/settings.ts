import {
  type BreakerPolicy,
  DEFAULT_BREAKER,
  DEFAULT_PLACEMENT,
  DEFAULT_RETRY,
  DEFAULT_STRATEGY,
  type Placement,
  type RetryPolicy,
  type Strategy,
} from '@baton/domain';

/** What an installation may set. Times in ms, sizes in bytes. */
export interface EngineSettings {
  /** A session and its leases live this long after the last heartbeat. */
  leaseTtlMs: number;
  heartbeatIntervalMs: number;
  /** An exchange without results waits this long for work, at most. */
  longPollMs: number;
  drainGraceMs: number;
  maxInputBytes: number;
  maxResultBytes: number;
  /** Of one blob that is read into memory: inputs, results, checkpoints. */
  maxBlobBytes: number;
  /** Of one file that tasks hand on. */
  maxArtifactBytes: number;
  /** After a save so many of the last checkpoints of its task stay, and the best. At least 1. */
  checkpointKeep: number;
  startToCloseMs: number;
  retry: RetryPolicy;
  breaker: BreakerPolicy;
  /** An idempotency key stands for its task this long. */
  idempotencyTtlMs: number;
  /** Ended tasks and runs, and events, are kept this long, and up to a week longer. At least 1. */
  historyDays: number;
  /** Sessions are swept, and lanes looked at again, about this often. */
  sweepIntervalMs: number;
  /** One statement takes at most this many rows, */
  batchRows: number;
  /** and about this many bytes. */
  batchBytes: number;
  /**
   * A claim over one lane takes at most this many rows: enough that a worker of short tasks has work at hand until the next answer.
   * Over a few lanes, each of which is locked that deep, it is a share of this, but not less than `batchRows`; over many (see CLAIM_WIDE) it
   * is this again.
   */
  claimRows: number;
  /** Heartbeats are gathered this long before they are written together. */
  renewGatherMs: number;
  /** Who waits for several runs is told of an end so much later, together with those that come right behind it. */
  endsGatherMs: number;
  /** How work is given to workers, where a queue does not say otherwise. */
  strategy: Strategy;
  /** Which devices and workers that fit are taken, where a queue does not say otherwise. */
  placement: Placement;
}

export const DEFAULT_SETTINGS: Readonly<EngineSettings> = {
  leaseTtlMs: 30_000,
  heartbeatIntervalMs: 10_000,
  longPollMs: 20_000,
  drainGraceMs: 30_000,
  maxInputBytes: 2 * 1024 * 1024,
  maxResultBytes: 2 * 1024 * 1024,
  maxBlobBytes: 100 * 1024 * 1024,
  maxArtifactBytes: 10 * 1024 ** 3,
  checkpointKeep: 5,
  startToCloseMs: 3_600_000,
  retry: DEFAULT_RETRY,
  breaker: DEFAULT_BREAKER,
  idempotencyTtlMs: 86_400_000,
  historyDays: 30,
  sweepIntervalMs: 1_000,
  batchRows: 500,
  batchBytes: 4 * 1024 * 1024,
  claimRows: 2_000,
  renewGatherMs: 20,
  endsGatherMs: 4,
  strategy: DEFAULT_STRATEGY,
  placement: DEFAULT_PLACEMENT,
};

/**
 * So long without a sweep of sessions was an outage: a third of the lease, which a worker that renews three times a lease does without
 * harm, but never what a late sweep alone can make.
 */
export function outageMs(settings: Pick<EngineSettings, 'leaseTtlMs' | 'sweepIntervalMs'>): number {
  return Math.max(settings.leaseTtlMs / 3, 3 * settings.sweepIntervalMs);
}
