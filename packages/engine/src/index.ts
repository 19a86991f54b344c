export { type ArtifactFilter, type Artifacts, type ArtifactsWanted, PREFER_BYTES } from './data/artifacts.ts';
export { sweepBlobs } from './data/blob-sweep.ts';
export { type Blobs, UNUSED_BLOB_MS } from './data/blobs.ts';
export { type Checkpoints, COMPARABLE_BYTES, INLINE_CHECKPOINT_BYTES, type SaveRequest } from './data/checkpoints.ts';
export * from './dispatch/ability.ts';
export type { Breakers, SeenBreaker } from './dispatch/breakers.ts';
export type { Assignment } from './dispatch/dispatcher.ts';
export { BLOCKER_REASONS, type Blocker, type BlockerReason, type Explanation } from './dispatch/explain.ts';
export type { OfferRoom } from './dispatch/planned-claims.ts';
export { PREFER_MS } from './dispatch/preference.ts';
export * from './engine.ts';
export * from './environment.ts';
export type { EventHub } from './events/event-hub.ts';
export * from './events/event-watch.ts';
export type { FunctionDefinition } from './functions/function-definition.ts';
export type { FunctionRuns } from './functions/function-runs.ts';
export type { CommandEntry, JournalAnswer, Journals, JournalVerdict } from './functions/journal.ts';
export * from './metrics.ts';
export * from './reads.ts';
export type { EndsPage, EndsRequest } from './runs/ends-watch.ts';
export type { RunEstimate, RunEstimates } from './runs/run-estimates.ts';
export type { Runs, StartRun } from './runs/runs.ts';
export type { ParsedWorkflow, Workflows } from './runs/workflows.ts';
export type { CancelOrder, Orders } from './sessions/orders.ts';
export { ARTIFACTS_TAG, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION } from './sessions/protocol.ts';
export { createQuietSessions, type QuietSessions, type StopWatch } from './sessions/quiet-sessions.ts';
export type {
  ExchangeInput,
  ExchangeOutput,
  HeartbeatInput,
  HeartbeatOutput,
  Sessions,
  WorkerRegistration,
} from './sessions/sessions.ts';
export * from './settings.ts';
export { type Failures, RESEND_ONCE } from './tasks/failures.ts';
export type { HistoryEntry, ReadHistory } from './tasks/history.ts';
export type { OutputChunk, OutputPage, OutputPlace, OutputReader, RefusedOutput } from './tasks/outputs.ts';
export type { Queues } from './tasks/queues.ts';
export * from './tasks/results.ts';
export type { ClientStreams } from './tasks/streams.ts';
export type { Submitted, Submitter, TaskRequest } from './tasks/submit.ts';
export { MAX_ANSWER_BYTES } from './tasks/task-ends.ts';
export { loadedExecutor, type TaskExecutor } from './tasks/task-executor.ts';
export type { LogCursor, LogPage, TaskFilter, Tasks } from './tasks/tasks.ts';
export { createRetention, type PartitionFate, type Retention, type RetentionReport } from './upkeep/retention.ts';
