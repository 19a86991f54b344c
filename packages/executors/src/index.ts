export { type ContainerExecutorOptions, containerExecutor } from './container/container-executor.ts';
export { type ContainerRules, wrongRules } from './container/container-rules.ts';
export { failureOfError } from './failure-of-error.ts';
export { functionExecutor } from './function-executor.ts';
export { grpcExecutor } from './grpc/grpc-executor.ts';
export { AddressRuleError, addressRules } from './http/address-rules.ts';
export { type HttpExecutorOptions, httpExecutor } from './http/http-executor.ts';
export { type LoadOptions, loadTasks, TaskModuleError } from './load-tasks.ts';
export { canRunProcesses, type ProcessExecutorOptions, processExecutor } from './process/process-executor.ts';
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
