export { functionExecutor } from './function-executor.ts';
export { grpcExecutor } from './grpc-executor.ts';
export { type LoadOptions, loadTasks, TaskModuleError } from './load-tasks.ts';
export { DuplicateTaskError, isTask, type RunnableTask, type TaskSource } from './task-definition.ts';
