export { failureOfError } from './failure-of-error.ts';
export { functionExecutor } from './function-executor.ts';
export { grpcExecutor } from './grpc-executor.ts';
export { type LoadOptions, loadTasks, TaskModuleError } from './load-tasks.ts';
export {
  DuplicateTaskError,
  isRunnable,
  isTask,
  isWorkflow,
  type Runnable,
  type RunnableTask,
  type RunnableWorkflow,
  type TaskSource,
} from './task-definition.ts';
