export * from './data/artifacts.ts';
export * from './data/blob-postgres.ts';
export * from './data/blob-store.ts';
export * from './data/blobs.ts';
export * from './data/checkpoints.ts';
export * from './data/logs.ts';
export * from './data/outputs.ts';
export * from './database/connection.ts';
export { bytesOfHex, hex } from './database/literals.ts';
export * from './database/migrate.ts';
export * from './events/events.ts';
export * from './events/hints.ts';
export * from './functions/complete-functions.ts';
export * from './functions/function-runs.ts';
export * from './functions/journal.ts';
export * from './functions/suspend.ts';
export * from './runs/read-run-ends.ts';
export * from './runs/run-advances.ts';
export * from './runs/run-estimates.ts';
export * from './runs/run-items.ts';
export * from './runs/run-outputs.ts';
export * from './runs/run-signals.ts';
export * from './runs/run-step.ts';
export * from './runs/runs.ts';
export * from './runs/workflows.ts';
export * from './tasks/cancel.ts';
export * from './tasks/claim.ts';
export * from './tasks/claim-planned.ts';
export * from './tasks/claim-probe.ts';
export * from './tasks/complete.ts';
export * from './tasks/deadlines.ts';
export * from './tasks/ends.ts';
export * from './tasks/failures.ts';
export type { Handed, Takers } from './tasks/hand-over.ts';
export * from './tasks/history.ts';
export { findNamespace, internLane, internNamespace, type Lane, lanesAfter, NEEDS_TAG } from './tasks/lanes.ts';
export * from './tasks/look.ts';
export * from './tasks/new-task.ts';
export * from './tasks/peek.ts';
export * from './tasks/progress.ts';
export * from './tasks/queues.ts';
export * from './tasks/read-ends.ts';
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
} from './tasks/read-tasks.ts';
export * from './tasks/recall.ts';
export * from './tasks/result-cache.ts';
export * from './tasks/retention.ts';
export * from './tasks/settle.ts';
export * from './tasks/standing.ts';
export * from './tasks/submit.ts';
export * from './tasks/sweep.ts';
export * from './tasks/waiting.ts';
export * from './workers/breakers.ts';
export * from './workers/device-leases.ts';
export * from './workers/edge-number.ts';
export * from './workers/health.ts';
export * from './workers/machines.ts';
export * from './workers/masters.ts';
export * from './workers/sessions.ts';
export * from './workers/worker-health.ts';
