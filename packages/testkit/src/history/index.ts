export type * from './database-dump.ts';
export * from './history.ts';
