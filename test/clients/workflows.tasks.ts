// All that the suites of workflows need, for one worker.
export * from './handles.tasks.ts';
export * from './runs.tasks.ts';
export * from './tasks.ts';
