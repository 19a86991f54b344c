export { checkChecker, checkHistory, type HistoryReport, INVARIANTS, showReport } from './check-history.ts';
export type * from './database-dump.ts';
export type { Draft } from './draft.ts';
export { type InvariantResult, MAX_VIOLATIONS, type Violation } from './findings.ts';
export * from './history.ts';
export { NoHistoryError, readDatabase, readHistory, TornHistoryError } from './read-history.ts';
