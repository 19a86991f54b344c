/**
 * Baton's tables for TypeScript: what Drizzle's typed queries and the row types are made of. Migrations are reviewed SQL of their
 * own; a test compares the two through the catalog of a migrated database, in both directions. What Drizzle has no words for
 * (partitions, comments, storage, views, functions) stands in the migrations alone.
 */

export * from './schema/artifacts.ts';
export * from './schema/blobs.ts';
export {
  ATTEMPT_STATES,
  baton,
  OUTCOME_STATES,
  RUN_FORMS,
  RUN_ITEM_STATES,
  RUN_NODE_STATES,
  RUN_STATES,
  SESSION_STATES,
  WAITING_REASONS,
} from './schema/columns.ts';
export * from './schema/events.ts';
export * from './schema/lanes.ts';
export * from './schema/runs.ts';
export * from './schema/task-data.ts';
export * from './schema/tasks.ts';
export * from './schema/workers.ts';
