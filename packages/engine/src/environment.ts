import type { IdMaker } from '@baton/domain';
import type { BlobStores, HintChannel, Pools } from '@baton/store';
import type { EngineSettings } from './settings.ts';

/** What the engine is handed: nothing in it reads a clock or draws a random number of its own. */
export interface EngineEnvironment {
  pools: Pools;
  ids: IdMaker;
  settings: EngineSettings;
  /** Wall clock, ms: for times that travel to people. Durations that decide are Postgres's. */
  now(): number;
  /** In [0, 1). */
  random(): number;
  /**
   * Calls back when this turn of the event loop is over, and what has arrived by now has been read. Default: a timer of 0 ms, of which
   * Node makes 1 ms, for each submit and each result on its way; Node's setImmediate is better.
   */
  endOfTurn?: (step: () => void) => unknown;
  /** Between masters of one database. Without it each looks by itself. */
  hints?: HintChannel;
  /** Where the bytes of blobs are. Default: Postgres. */
  blobStores?: BlobStores;
  log: EngineLog;
}

export type LogFields = Record<string, string | number | boolean | null | undefined>;

/** A constant message and its fields. */
export interface EngineLog {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export const silentLog: EngineLog = { debug() {}, info() {}, warn() {}, error() {} };
