/** Counters of this master, since it started. Names and meanings are in one place: here and in docs/reference/metrics.md. */
export const COUNTERS = {
  baton_tasks_submitted_total: 'Tasks stored by this master.',
  baton_tasks_deduplicated_total: 'Submits that an idempotency key answered.',
  baton_tasks_granted_total: 'Leases granted.',
  baton_tasks_succeeded_total: 'Tasks that ended with success.',
  baton_tasks_failed_total: 'Tasks that ended with failure.',
  baton_tasks_cancelled_total: 'Tasks that ended cancelled.',
  baton_attempts_failed_total: 'Attempts that failed, the last one of a task included.',
  baton_results_refused_total: 'Results refused because the lease was lost.',
  baton_leases_returned_total: 'Leases handed back or taken back at no cost.',
  baton_leases_lost_total: 'Leases whose worker was lost.',
  baton_checkpoints_saved_total: 'Checkpoints saved.',
  baton_exchanges_total: 'Exchange calls.',
  baton_heartbeats_total: 'Heartbeat calls.',
  baton_claims_total: 'Claim statements.',
  baton_sessions_lost_total: 'Sessions that expired.',
  baton_run_steps_total: 'Steps of runs that were written.',
  baton_run_conflicts_total: 'Steps of runs that another master had done first.',
  baton_journal_entries_total: 'Entries written to journals of durable functions.',
} as const;
export type CounterName = keyof typeof COUNTERS;

export interface Counters {
  add(name: CounterName, n?: number): void;
  read(): Record<CounterName, number>;
}

export function createCounters(): Counters {
  const values = Object.fromEntries(Object.keys(COUNTERS).map((name) => [name, 0])) as Record<CounterName, number>;
  return {
    add(name, n = 1) {
      values[name] += n;
    },
    read: () => ({ ...values }),
  };
}
