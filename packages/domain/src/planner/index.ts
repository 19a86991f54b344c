export * from './placement.ts';
export * from './plan.ts';
export * from './shortage.ts';
export * from './strategy.ts';
export * from './worker.ts';
