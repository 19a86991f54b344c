/** The public SDK: typed tasks, workflows and handles, in a browser, Deno, Node and workerd. */

export { PLACEMENTS, type Placement, STRATEGIES, type Strategy, type TaskEnvironment } from '@baton/domain';
export { type Baton, type BatonOptions, createBaton } from './baton.ts';
export type { BreakerView } from './breaker-view.ts';
export type { CallOptions, RetryTiming } from './calls/call.ts';
export { BatonError, type BatonErrorCode, toBatonError, type Violation } from './calls/error.ts';
export type { List, PageOptions } from './calls/pages.ts';
export { createFetchTransport, type TransportOptions } from './calls/transport.ts';
export type { Compression } from './calls/wire.ts';
export {
  type ArtifactInputView,
  type ArtifactSource,
  type Artifacts,
  type ArtifactValue,
  type ArtifactView,
  isArtifactValue,
  type ListArtifactsOptions,
} from './data/artifacts.ts';
export type { BlobData } from './data/blob-bytes.ts';
export {
  type BlobEncoding,
  type BlobName,
  type BlobValue,
  blobInput,
  isBlobValue,
  type ResultOf,
} from './data/blob-value.ts';
export type { BlobContent, Blobs, BlobView, PutBlobOptions } from './data/blobs.ts';
export type {
  CheckpointComparison,
  CheckpointContent,
  CheckpointDifferenceView,
  CheckpointStatisticsView,
  Checkpoints,
  CheckpointView,
} from './data/checkpoints.ts';
export type { Duration } from './durable/duration.ts';
export { NonDeterminism, StepFailed, WorkflowUsageError } from './durable/errors.ts';
export type { StepContext, StepOptions, StepRetry } from './durable/function-run.ts';
export type { JournalFailure } from './durable/journal.ts';
export type { EventBatch, EventSubscription, Events, EventView, WatchEventsOptions } from './events.ts';
export type { BlockerView, ExplanationView } from './explanation.ts';
export type { GpuHealthView, HealthIssueView, HealthSampleView, MachineHealthView } from './machine-view.ts';
export type { JournalEntryView, RunJournal } from './runs/journal-view.ts';
export type { SignalOptions } from './runs/run-signal.ts';
export type {
  NodeOutputOptions,
  OutputChunk,
  OutputChunksOptions,
  RunProgress,
  StreamRunOptions,
} from './runs/run-streams.ts';
export type { ProblemView, RunItemView, RunNodeView, RunView, WorkflowView } from './runs/run-view.ts';
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
} from './runs/runs.ts';
export type { HealthView, InfoView, MetricView, System, Workers, WorkerView } from './system.ts';
export type {
  DeadTaskView,
  FailureRecordView,
  FailureStatisticsView,
  ListDeadOptions,
  ListFailuresOptions,
  ResendOptions,
  Resent,
} from './tasks/failures.ts';
export { RunCancelled, RunFailed, TaskCancelled, TaskFailed } from './tasks/outcome.ts';
export { decodePayload, encodeInput, JsonText } from './tasks/payload.ts';
export type {
  ContainerMountOptions,
  ContainerOptions,
  HttpOptions,
  ProcessOptions,
  ProgramExecutor,
} from './tasks/program.ts';
export type { QueuePlanning, Queues, QueueView } from './tasks/queues.ts';
export type { TaskRequirements, TaskResources } from './tasks/resources.ts';
export {
  isTaskDefinition,
  type RetryOptions,
  type TaskContext,
  type TaskDefinition,
  type TaskOutput,
  type TaskPolicy,
  task,
} from './tasks/task.ts';
export type { SaveCheckpointOptions, TaskArtifacts, TaskBlobs, TaskCheckpoints } from './tasks/task-data.ts';
export type { SubmitOptions, TaskSubmission } from './tasks/task-spec.ts';
export type {
  HistoryEntryView,
  OutputOptions,
  OutputPart,
  OutputPlace,
  ResultBatch,
  ResultBatchesOptions,
  ResultsOptions,
  TaskHistory,
} from './tasks/task-streams.ts';
export type { AttemptView, ExecutorView, FailureView, LogLineView, ProgressView, TaskView } from './tasks/task-view.ts';
export type { ListTasksOptions, LogOptions, SubmittedTask, TaskDetails, TaskHandle, Tasks } from './tasks/tasks.ts';
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
export { AttemptFailure, NonRetryable, RetryAfter } from './workflows/control-flow.ts';
export {
  type Combination,
  Graph,
  type GraphNode,
  graph,
  type NodeReferences,
  type NodeSettings,
  type StartableGraph,
} from './workflows/graph.ts';
export {
  type ArtifactReference,
  type Expression,
  expr,
  GraphError,
  type Reference,
  type Template,
  type ValueOf,
} from './workflows/graph-reference.ts';
export { toMermaid } from './workflows/mermaid.ts';
export {
  parseWith,
  type SchemaIssue,
  SchemaMismatch,
  type SchemaResult,
  type StandardSchema,
} from './workflows/standard-schema.ts';
export {
  type ChildOptions,
  isWorkflowFunction,
  type RunTaskOptions,
  type WorkflowContext,
  type WorkflowFunction,
  workflow,
} from './workflows/workflow-function.ts';
export type { WorkflowDefinition, Workflows } from './workflows.ts';
