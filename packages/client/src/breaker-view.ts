import type { Breaker } from '@baton/contract';
import { optionalDate } from './calls/time.ts';
import { type BreakerStateName, breakerStateName } from './words.ts';

/** A circuit breaker: whether work is granted to a worker, or a device used. */
export interface BreakerView {
  readonly worker: string;
  /** A GPU's UUID; absent: the worker itself. */
  readonly device?: string;
  readonly state: BreakerStateName;
  /** Why it opened last, or who closed it. */
  readonly reason: string;
  readonly changeTime?: Date;
  /** When an open one lets a probe through. */
  readonly probeTime?: Date;
  /** Successes of probes in a row. */
  readonly successes: number;
  /** The task that is the probe now. */
  readonly probeTaskId?: string;
  /** Machine-made failures within the window, and since it closed, that have no task in common. */
  readonly failures: number;
}

export function breakerView(breaker: Breaker): BreakerView {
  return {
    worker: breaker.worker,
    device: breaker.device || undefined,
    state: breakerStateName(breaker.state),
    reason: breaker.reason,
    changeTime: optionalDate(breaker.changeTime),
    probeTime: optionalDate(breaker.probeTime),
    successes: breaker.successes,
    probeTaskId: breaker.probeTaskId || undefined,
    failures: breaker.failures,
  };
}
