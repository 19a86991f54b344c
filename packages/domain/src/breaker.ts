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
  /** And after this time already where no other living worker could take the work that is its own: a shut-out must not stop everything. */
  soleOpenMs: number;
  /** Closes after this many successes of probes in a row. */
  successes: number;
}

/** Source: the succeeded systems' figures. */
export const DEFAULT_BREAKER: Readonly<BreakerPolicy> = {
  failures: 3,
  windowMs: 3_600_000,
  openMs: 300_000,
  soleOpenMs: 10_000,
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

/** Whether a closed breaker opens. @param distinctTasks failures within the window that no task has a part in twice, see `unrelated` */
export function opens(distinctTasks: number, policy: BreakerPolicy): boolean {
  return distinctTasks >= policy.failures;
}

/**
 * How many failures there are of which no two have a task in common: as many tasks at least would have to be at fault, were it not
 * the machine. A lost worker is one failure, and each task that it held has a part in it: a task that kills its worker again and
 * again, with ever other tasks beside it, counts once.
 *
 * @param incidents the tasks of each failure. Those of few tasks are taken first; that finds the most, or nearly.
 */
export function unrelated(incidents: readonly (readonly string[])[]): number {
  const seen = new Set<string>();
  let count = 0;
  for (const tasks of [...incidents].sort((a, b) => a.length - b.length)) {
    if (tasks.some((task) => seen.has(task))) continue;
    for (const task of tasks) seen.add(task);
    count++;
  }
  return count;
}

/** A breaker as it is looked at. */
export interface BreakerSight extends BreakerView {
  /** Time in this state, ms. */
  forMs: number;
  /** Failures within the window, and since it closed, that have nothing in common. */
  failures: number;
  /** It is open, and there is work that no living worker with a closed breaker could take. */
  isSole: boolean;
  /** How its probe ended; null: it has none, or it runs. */
  probe: ProbeResult | null;
  /** Of a device: it was named by a failure since the breaker became half-open, whichever task that was. */
  failedSince: boolean;
}

/** The step that is due; null: none. A step from half_open to half_open frees the probe. */
export function nextStep(sight: BreakerSight, policy: BreakerPolicy): BreakerView | null {
  switch (sight.state) {
    case 'closed':
      return opens(sight.failures, policy) ? { state: 'open', successes: 0 } : null;
    case 'open':
      return sight.forMs >= (sight.isSole ? Math.min(policy.soleOpenMs, policy.openMs) : policy.openMs)
        ? { state: 'half_open', successes: 0 }
        : null;
    case 'half_open':
      if (sight.failedSince) return { state: 'open', successes: 0 };
      if (sight.probe === null) return null;
      return afterProbe({ state: sight.state, successes: sight.successes }, sight.probe, policy);
  }
}
