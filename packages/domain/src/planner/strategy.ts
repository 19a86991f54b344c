import type { OfferingWorker, ReadyTask, WorkerRecord } from './worker.ts';

/** How work is given out, by name. `work_stealing` is the pull that Baton does anyway: the same as `priority`. */
export const STRATEGIES = ['fifo', 'priority', 'round_robin', 'load_balancing', 'adaptive', 'work_stealing'] as const;
export type Strategy = (typeof STRATEGIES)[number];
export const DEFAULT_STRATEGY: Strategy = 'priority';

/** By age alone under `fifo`; else the higher priority first, and among equals the older. */
export function taskOrder(strategy: Strategy): (a: ReadyTask, b: ReadyTask) => number {
  return strategy === 'fifo'
    ? (a, b) => byPosition(a.position, b.position)
    : (a, b) => b.priority - a.priority || byPosition(a.position, b.position);
}

/** Whole numbers as text. */
function byPosition(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** Tasks held for each device (each worker has one at least), and a tenth for each that failed: the lower, the better. */
export function loadOf(worker: Pick<OfferingWorker, 'gpus' | 'failed'>, busy: number): number {
  return busy / Math.max(1, worker.gpus) + 0.1 * worker.failed;
}

/** The average of a worker of which no task has ended yet. */
const UNKNOWN_AVERAGE_S = 1;

/**
 * 0.5 / average time (s) + 0.3 × share of successes + 0.2 × devices / 4: the higher, the better. Whoever has done nothing yet is
 * taken for one that needs a second and never failed.
 */
export function adaptiveScore(worker: Pick<OfferingWorker, 'gpus'> & WorkerRecord): number {
  const ended = worker.completed + worker.failed;
  const averageS = worker.averageMs === null ? UNKNOWN_AVERAGE_S : Math.max(worker.averageMs, 0.001) / 1000;
  return 0.5 / averageS + 0.3 * (ended === 0 ? 1 : worker.completed / ended) + (0.2 * worker.gpus) / 4;
}

/** Of the newest time in a worker's moving average. */
const NEWEST_SHARE = 0.1;

/** What is known of a worker after one more task has ended there. */
export function recordAfter(record: WorkerRecord, succeeded: boolean, ranMs: number): WorkerRecord {
  const averageMs = record.averageMs === null ? ranMs : record.averageMs + NEWEST_SHARE * (ranMs - record.averageMs);
  return {
    completed: record.completed + (succeeded ? 1 : 0),
    failed: record.failed + (succeeded ? 0 : 1),
    averageMs,
  };
}

export const NEW_RECORD: WorkerRecord = Object.freeze({ completed: 0, failed: 0, averageMs: null });
