/** For tests: a task's life on SQL against a model of it. Nothing that ships imports it. */
export { driveLifeCycle, LifeCycleDivergence, type LifeCycleReport } from './life-cycle.ts';
export * as model from './model/index.ts';
export { type ObservedTask, observeTasks, TaskMisplaced } from './observe.ts';
export { idsOfPast, makePast } from './past.ts';
export { type Random, seededRandom } from './random.ts';
