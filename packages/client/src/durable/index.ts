/** The replay of durable functions: for workers, for `workflow replay`, for tests. Users write functions by what the package itself exports. */

export { isWorkflowFunction, releaseTag } from '../workflows/workflow-function.ts';
export { checkReplay, type ReplayReport } from './check-replay.ts';
export { workflowContext } from './context.ts';
export { durationMs } from './duration.ts';
export { NonDeterminism, StepFailed, WorkflowUsageError } from './errors.ts';
export { failureOf } from './failure-of.ts';
export {
  type FunctionClock,
  type FunctionEnd,
  FunctionRun,
  type FunctionRunOptions,
} from './function-run.ts';
export type {
  ChildCommand,
  CommandKind,
  JournalAnswer,
  JournalEntry,
  JournalFailure,
  JournalPayload,
  JournalPort,
  NewEntry,
  TaskCommand,
} from './journal.ts';
export { MAX_ENTRIES, MAX_OUTPUT_BYTES } from './journal.ts';
export { decodeValue, encodeValue } from './payload.ts';
