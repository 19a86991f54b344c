export * from './artifacts.ts';
export * from './blob-postgres.ts';
export * from './blob-store.ts';
export * from './blobs.ts';
export * from './breakers.ts';
export * from './cancel.ts';
export * from './checkpoints.ts';
export * from './claim.ts';
export * from './claim-planned.ts';
export * from './claim-probe.ts';
export * from './complete.ts';
export * from './complete-functions.ts';
export * from './connection.ts';
export * from './deadlines.ts';
export * from './device-leases.ts';
export * from './edge-number.ts';
export * from './ends.ts';
export * from './events.ts';
export * from './failures.ts';
export * from './function-runs.ts';
export type { Handed, Takers } from './hand-over.ts';
export * from './health.ts';
export * from './hints.ts';
export * from './history.ts';
export * from './journal.ts';
export { findNamespace, internLane, internNamespace, type Lane, lanesAfter, NEEDS_TAG } from './lanes.ts';
export { bytesOfHex, hex } from './literals.ts';
export * from './logs.ts';
export * from './machines.ts';
export * from './masters.ts';
export * from './migrate.ts';
export * from './outputs.ts';
export * from './peek.ts';
export * from './progress.ts';
export * from './queues.ts';
export {
  type AttemptRow,
  endsOf,
  GET_TASK,
  LIST_TASKS,
  listTasks,
  READ_ENDED,
  readAttempts,
  readEnded,
  readTask,
  type TaskPage,
  type TaskRow,
} from './read-tasks.ts';
export * from './recall.ts';
export * from './result-cache.ts';
export * from './retention.ts';
export * from './run-advances.ts';
export * from './run-estimates.ts';
export * from './run-items.ts';
export * from './run-outputs.ts';
export * from './run-signals.ts';
export * from './run-step.ts';
export * from './runs.ts';
export * from './sessions.ts';
export * from './settle.ts';
export * from './standing.ts';
export * from './submit.ts';
export * from './suspend.ts';
export * from './sweep.ts';
export * from './waiting.ts';
export * from './worker-health.ts';
export * from './workflows.ts';
