/** Where a task stands. The last three are final. Stored as these words; see the CHECK constraints of migration 0001. */
export const TASK_STATES = [
  'scheduled',
  'blocked',
  'ready',
  'leased',
  'backoff',
  'succeeded',
  'failed',
  'cancelled',
] as const;
export type TaskState = (typeof TASK_STATES)[number];

/** An end is final: sending a task again makes a new one. */
export const TERMINAL_STATES: readonly TaskState[] = ['succeeded', 'failed', 'cancelled'];

/**
 * Every legal step of a task. `none` is before it is stored. The SQL mirrors it: a row moves between the tables
 * waiting, ready and leases, and ends in outcomes.
 */
export const TASK_TRANSITIONS: Readonly<Record<TaskState | 'none', readonly TaskState[]>> = {
  none: ['scheduled', 'blocked', 'ready'],
  scheduled: ['ready', 'cancelled'],
  blocked: ['ready', 'cancelled'],
  // Failed: its schedule-to-start time was over before anybody took it.
  ready: ['leased', 'failed', 'cancelled'],
  leased: ['succeeded', 'failed', 'cancelled', 'backoff', 'ready'],
  backoff: ['ready', 'cancelled'],
  succeeded: [],
  failed: [],
  cancelled: [],
};

export function mayMove(from: TaskState | 'none', to: TaskState): boolean {
  return TASK_TRANSITIONS[from].includes(to);
}

export function isTerminal(state: TaskState): boolean {
  return TERMINAL_STATES.includes(state);
}

export const TASK_CLASSES = ['cpu_short', 'cpu_long', 'gpu', 'gpu_slurm'] as const;
/** The kind of machine a task needs. */
export type TaskClass = (typeof TASK_CLASSES)[number];

export const EXECUTOR_TYPES = ['function', 'process', 'grpc', 'http', 'container', 'slurm'] as const;
/** How a worker carries a task out. */
export type ExecutorType = (typeof EXECUTOR_TYPES)[number];
