export * from './ability.ts';
export { type ArtifactFilter, type Artifacts, type ArtifactsWanted, PREFER_BYTES } from './artifacts.ts';
export { sweepBlobs } from './blob-sweep.ts';
export { type Blobs, UNUSED_BLOB_MS } from './blobs.ts';
export type { Breakers, SeenBreaker } from './breakers.ts';
export { type Checkpoints, COMPARABLE_BYTES, INLINE_CHECKPOINT_BYTES, type SaveRequest } from './checkpoints.ts';
export type { Assignment } from './dispatcher.ts';
export type { EndsPage, EndsRequest } from './ends-watch.ts';
export * from './engine.ts';
export * from './environment.ts';
export type { EventHub } from './event-hub.ts';
export * from './event-watch.ts';
export { BLOCKER_REASONS, type Blocker, type BlockerReason, type Explanation } from './explain.ts';
export { type Failures, RESEND_ONCE } from './failures.ts';
export type { FunctionDefinition } from './function-definition.ts';
export type { FunctionRuns } from './function-runs.ts';
export type { HistoryEntry, ReadHistory } from './history.ts';
export type { CommandEntry, JournalAnswer, Journals, JournalVerdict } from './journal.ts';
export * from './metrics.ts';
export type { CancelOrder, Orders } from './orders.ts';
export type { OutputChunk, OutputPage, OutputPlace, OutputReader, RefusedOutput } from './outputs.ts';
export type { OfferRoom } from './planned-claims.ts';
export { PREFER_MS } from './preference.ts';
export { ARTIFACTS_TAG, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION } from './protocol.ts';
export type { Queues } from './queues.ts';
export * from './reads.ts';
export * from './results.ts';
export { createRetention, type PartitionFate, type Retention, type RetentionReport } from './retention.ts';
export type { RunEstimate, RunEstimates } from './run-estimates.ts';
export type { Runs, StartRun } from './runs.ts';
export type {
  ExchangeInput,
  ExchangeOutput,
  HeartbeatInput,
  HeartbeatOutput,
  Sessions,
  WorkerRegistration,
} from './sessions.ts';
export * from './settings.ts';
export type { ClientStreams } from './streams.ts';
export type { Submitted, Submitter, TaskRequest } from './submit.ts';
export { loadedExecutor, type TaskExecutor } from './task-executor.ts';
export type { LogCursor, LogPage, TaskFilter, Tasks } from './tasks.ts';
export type { ParsedWorkflow, Workflows } from './workflows.ts';
