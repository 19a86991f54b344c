export { loadTasks } from '@baton/executors';
export { createWorker, type Worker, type WorkerOptions, type WorkerUnderTest } from './create-worker.ts';
