export * from './breaker.ts';
export * from './definition/index.ts';
export * from './event-type.ts';
export * from './failure.ts';
export * from './ids.ts';
export * from './refusal.ts';
export * from './retry.ts';
export * from './task-state.ts';
