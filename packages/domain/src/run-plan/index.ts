export { ItemProgress } from './item-progress.ts';
export { planRetryFrom, type RetryPlan } from './plan-retry.ts';
export { compileGraph, type PlannedNode, type RunGraph } from './run-graph.ts';
export { type NodeEnd, RunProgress, type RunStanding } from './run-progress.ts';
