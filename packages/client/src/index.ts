/** The public SDK: typed tasks, workflows and handles, in a browser, Deno, Node and workerd. */

export { PLACEMENTS, type Placement, STRATEGIES, type Strategy, type TaskEnvironment } from '@baton/domain';
export {
  type ArtifactInputView,
  type ArtifactSource,
  type Artifacts,
  type ArtifactValue,
  type ArtifactView,
  isArtifactValue,
  type ListArtifactsOptions,
} from './artifacts.ts';
export { type Baton, type BatonOptions, createBaton } from './baton.ts';
export type { BlobData } from './blob-bytes.ts';
export {
  type BlobEncoding,
  type BlobName,
  type BlobValue,
  blobInput,
  isBlobValue,
  type ResultOf,
} from './blob-value.ts';
export type { BlobContent, Blobs, BlobView, PutBlobOptions } from './blobs.ts';
export type { BreakerView } from './breaker-view.ts';
export type { CallOptions, RetryTiming } from './call.ts';
export type {
  CheckpointComparison,
  CheckpointContent,
  CheckpointDifferenceView,
  CheckpointStatisticsView,
  Checkpoints,
  CheckpointView,
} from './checkpoints.ts';
export { AttemptFailure, NonRetryable, RetryAfter } from './control-flow.ts';
export type { Duration } from './durable/duration.ts';
export { NonDeterminism, StepFailed, WorkflowUsageError } from './durable/errors.ts';
export type { StepContext, StepOptions, StepRetry } from './durable/function-run.ts';
export type { JournalFailure } from './durable/journal.ts';
export { BatonError, type BatonErrorCode, toBatonError, type Violation } from './error.ts';
export type { EventBatch, EventSubscription, Events, EventView, WatchEventsOptions } from './events.ts';
export type { BlockerView, ExplanationView } from './explanation.ts';
export type {
  DeadTaskView,
  FailureRecordView,
  FailureStatisticsView,
  ListDeadOptions,
  ListFailuresOptions,
  ResendOptions,
  Resent,
} from './failures.ts';
export {
  type Combination,
  Graph,
  type GraphNode,
  graph,
  type NodeReferences,
  type NodeSettings,
  type StartableGraph,
} from './graph.ts';
export {
  type ArtifactReference,
  type Expression,
  expr,
  GraphError,
  type Reference,
  type Template,
  type ValueOf,
} from './graph-reference.ts';
export type { JournalEntryView, RunJournal } from './journal-view.ts';
export type { GpuHealthView, HealthIssueView, HealthSampleView, MachineHealthView } from './machine-view.ts';
export { toMermaid } from './mermaid.ts';
export { RunCancelled, RunFailed, TaskCancelled, TaskFailed } from './outcome.ts';
export type { List, PageOptions } from './pages.ts';
export { decodePayload, encodeInput, JsonText } from './payload.ts';
export type {
  ContainerMountOptions,
  ContainerOptions,
  HttpOptions,
  ProcessOptions,
  ProgramExecutor,
} from './program.ts';
export type { QueuePlanning, Queues, QueueView } from './queues.ts';
export type { TaskRequirements, TaskResources } from './resources.ts';
export type { SignalOptions } from './run-signal.ts';
export type {
  NodeOutputOptions,
  OutputChunk,
  OutputChunksOptions,
  RunProgress,
  StreamRunOptions,
} from './run-streams.ts';
export type { ProblemView, RunItemView, RunNodeView, RunView, WorkflowView } from './run-view.ts';
export type {
  ListItemsOptions,
  ListRunsOptions,
  RetriedRun,
  RetryRunOptions,
  RunHandle,
  Runs,
  StartedRun,
  StartRunOptions,
  TypedStartOptions,
} from './runs.ts';
export {
  parseWith,
  type SchemaIssue,
  SchemaMismatch,
  type SchemaResult,
  type StandardSchema,
} from './standard-schema.ts';
export type { HealthView, InfoView, MetricView, System, Workers, WorkerView } from './system.ts';
export {
  isTaskDefinition,
  type RetryOptions,
  type TaskContext,
  type TaskDefinition,
  type TaskOutput,
  type TaskPolicy,
  task,
} from './task.ts';
export type { SaveCheckpointOptions, TaskArtifacts, TaskBlobs, TaskCheckpoints } from './task-data.ts';
export type { SubmitOptions, TaskSubmission } from './task-spec.ts';
export type {
  HistoryEntryView,
  OutputOptions,
  OutputPart,
  OutputPlace,
  ResultBatch,
  ResultBatchesOptions,
  ResultsOptions,
  TaskHistory,
} from './task-streams.ts';
export type { AttemptView, ExecutorView, FailureView, LogLineView, ProgressView, TaskView } from './task-view.ts';
export type { ListTasksOptions, LogOptions, SubmittedTask, TaskDetails, TaskHandle, Tasks } from './tasks.ts';
export { createFetchTransport, type TransportOptions } from './transport.ts';
export type { Compression } from './wire.ts';
export {
  type AttemptStateName,
  type BreakerStateName,
  type EventTypeName,
  eventTypeNames,
  type FailureTypeName,
  failureTypeNames,
  isFinalRunState,
  isFinalTaskState,
  type NodeStateName,
  type RunStateName,
  runStateNames,
  type TaskClassName,
  type TaskStateName,
  taskClassNames,
  taskStateNames,
  type WorkerStateName,
} from './words.ts';
export type { WorkerLogLine, WorkerLogOptions } from './worker-logs.ts';
export {
  type ChildOptions,
  isWorkflowFunction,
  type RunTaskOptions,
  type WorkflowContext,
  type WorkflowFunction,
  workflow,
} from './workflow-function.ts';
export type { WorkflowDefinition, Workflows } from './workflows.ts';
