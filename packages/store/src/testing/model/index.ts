/**
 * A model of the store: the same functions as the statements, on tables in memory. The simulation runs masters on it; the
 * comparison with SQL proves that it says what Postgres does.
 */
export * from './sessions.ts';
export * from './tables.ts';
export * from './tasks.ts';
