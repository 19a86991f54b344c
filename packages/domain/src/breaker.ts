/** Where a circuit breaker stands. closed: work is granted. open: none. half_open: one task at a time, as a probe. */
export const BREAKER_STATES = ['closed', 'open', 'half_open'] as const;
export type BreakerState = (typeof BREAKER_STATES)[number];

/** Every legal step of a breaker. A reset by hand closes it from anywhere. */
export const BREAKER_TRANSITIONS: Readonly<Record<BreakerState, readonly BreakerState[]>> = {
  closed: ['open'],
  open: ['half_open', 'closed'],
  half_open: ['closed', 'open'],
};

/** When a breaker moves. Times in ms. */
export interface BreakerPolicy {
  /** Opens at this many machine-made failures of as many distinct tasks (one buggy task never shuts a machine out), */
  failures: number;
  /** within this time. */
  windowMs: number;
  /** An open one lets a probe through after this time. */
  openMs: number;
  /** Closes after this many successes of probes in a row. */
  successes: number;
}

/** Source: the succeeded systems' figures. */
export const DEFAULT_BREAKER: Readonly<BreakerPolicy> = {
  failures: 3,
  windowMs: 3_600_000,
  openMs: 300_000,
  successes: 2,
};

/** How the probe of a half-open breaker ended, as far as the machine is concerned. `neutral`: it says nothing about the machine. */
export type ProbeResult = 'success' | 'machine_failure' | 'neutral';

export interface BreakerView {
  state: BreakerState;
  /** Successes of probes since it became half-open. */
  successes: number;
}

/** What the end of a probe makes of a half-open breaker. */
export function afterProbe(breaker: BreakerView, result: ProbeResult, policy: BreakerPolicy): BreakerView {
  if (breaker.state !== 'half_open' || result === 'neutral') return breaker;
  if (result === 'machine_failure') return { state: 'open', successes: 0 };
  const successes = breaker.successes + 1;
  return successes >= policy.successes ? { state: 'closed', successes: 0 } : { state: 'half_open', successes };
}

/** Whether a closed breaker opens. @param distinctTasks tasks with a machine-made failure here within the window */
export function opens(distinctTasks: number, policy: BreakerPolicy): boolean {
  return distinctTasks >= policy.failures;
}
