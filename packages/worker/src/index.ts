export type { CacheStats } from './artifact-cache.ts';
export type {
  ArtifactValue,
  AttemptArtifacts,
  AttemptBlobs,
  AttemptCheckpoints,
  BlobEncoding,
  BlobValue,
  HandedArtifact,
  SaveOptions,
} from './attempt-data.ts';
export type { AttemptJournal, LoadedJournal } from './attempt-journal.ts';
export { type Backoff, fullJitter } from './backoff.ts';
export { type BlobData, BlobError } from './blob-transfer.ts';
export type { Compression } from './connection.ts';
export {
  ArtifactError,
  CheckpointError,
  JournalError,
  OutputError,
  WorkerOptionsError,
  WorkerStoppedError,
} from './errors.ts';
export type {
  AttemptContext,
  Executor,
  FailureReport,
  FunctionDescription,
  Outcome,
} from './executor.ts';
export { guardedManager } from './guarded-manager.ts';
export { createWorkerRuntime, type WorkerRuntime, type WorkerRuntimeOptions } from './runtime.ts';
export type { StateName } from './state.ts';
export { type StopKind, TaskStopped } from './stop.ts';
