/** Reads that need no use case of their own: the API shows them as they are. */
export {
  type AttemptRow,
  countLive,
  listRuns,
  listWorkers,
  listWorkflows,
  type RunNodeRow,
  type RunRow,
  readRun,
  readRunNodes,
  readVitals,
  readWorkflow,
  type TaskRow,
  type Vitals,
  type WorkerRow,
  type WorkflowRow,
} from '@baton/store';
