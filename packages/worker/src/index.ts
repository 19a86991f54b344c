export type { CacheStats } from './attempts/artifact-cache.ts';
export type {
  ArtifactValue,
  AttemptArtifacts,
  AttemptBlobs,
  AttemptCheckpoints,
  BlobEncoding,
  BlobValue,
  HandedArtifact,
  SaveOptions,
} from './attempts/attempt-data.ts';
export type { AttemptJournal, LoadedJournal } from './attempts/attempt-journal.ts';
export type {
  AttemptContext,
  Executor,
  FailureReport,
  FunctionDescription,
  Outcome,
} from './attempts/executor.ts';
export { type StopKind, TaskStopped } from './attempts/stop.ts';
export { type Backoff, fullJitter } from './calls/backoff.ts';
export { type BlobData, BlobError } from './calls/blob-transfer.ts';
export type { Compression } from './calls/connection.ts';
export { guardedManager } from './calls/guarded-manager.ts';
export {
  ArtifactError,
  CheckpointError,
  JournalError,
  OutputError,
  WorkerOptionsError,
  WorkerStoppedError,
} from './errors.ts';
export { createWorkerRuntime, type WorkerRuntime, type WorkerRuntimeOptions } from './runtime.ts';
export type { StateName } from './state.ts';
