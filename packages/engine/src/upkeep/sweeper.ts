import {
  dropExpiredKeys,
  dropExpiredResults,
  dropOldSessions,
  ensurePartitions,
  freeOrphanDevices,
  leasesOf,
  nextDueMs,
  promoteDue,
  type SweptSession,
  sweepSessions,
} from '@baton/store';
import { sweepBlobs } from '../data/blob-sweep.ts';
import type { Dispatcher } from '../dispatch/dispatcher.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import type { Deadlines } from '../sessions/deadlines.ts';
import type { SessionsHere } from '../sessions/sessions.ts';
import { outageMs } from '../settings.ts';
import { type Results, settleLost } from '../tasks/results.ts';

/**
 * The periodic duties of a master. Any number of masters may do them: each statement takes its lock for itself or skips what
 * another holds.
 *
 * Sessions are swept by a loop of their own: a long time without a sweep is taken for an outage, so no other work may hold it up.
 */
export interface Sweeper {
  start(): void;
  /** Something becomes due after this time, or a task's time to be started is over. */
  dueIn(delayMs: number): void;
  /** Looks now at what has become due: for whoever has moved the clock. */
  look(): Promise<void>;
  stop(): Promise<void>;
}

export interface SweepSinks {
  /** Tasks became ready in this lane. */
  onReady(laneId: number): void;
  /** Once a round. */
  onRound(): void;
  /** About every five seconds. */
  onSlowRound(): Promise<void>;
  /** About every ten minutes. Returns at once. */
  onHousekeeping(): void;
}

const PROMOTE_ROWS = 1_000;
/** What need not be looked at each time: overdue work, living masters. */
const SLOW_EVERY = 5;
const HOUSEKEEPING_EVERY = 600;
/** Longest time for which one timer is set; the regular sweep sees to the rest. */
const MAX_TIMER_MS = 60_000;

export function createSweeper(
  env: EngineEnvironment,
  lanes: LaneBook,
  dispatcher: Dispatcher,
  results: Results,
  sessions: SessionsHere,
  deadlines: Deadlines,
  counters: Counters,
  sinks: SweepSinks,
): Sweeper {
  const { pools, settings } = env;
  let stopped = false;
  let rounds = 0;
  const wakes = new Set<() => void>();
  let loops: Promise<unknown> | null = null;
  let reclaiming: Promise<void> | null = null;
  let dueTimer: ReturnType<typeof setTimeout> | undefined;
  let dueAt = Number.POSITIVE_INFINITY;

  async function sessionsRound(): Promise<void> {
    const over = await sweepSessions(pools.lease, outageMs(settings));
    for (const session of over) {
      if (!session.now) continue;
      counters.add('baton_sessions_lost_total');
      sessions.forget(session.sessionId);
      env.log.warn('session expired', { session_id: session.sessionId });
    }
    // What is not reclaimed by the next sweep is found by it again.
    if (over.length > 0 && !reclaiming)
      reclaiming = reclaim(over)
        .catch((error) => env.log.warn('leases not taken back', { error: String(error) }))
        .finally(() => {
          reclaiming = null;
        });
  }

  async function reclaim(over: readonly SweptSession[]): Promise<void> {
    for (const session of over)
      for (;;) {
        const leases = await leasesOf(pools.lease, [session.sessionId], settings.batchRows);
        if (leases.length === 0) break;
        const settled = await results.settle(
          leases.map((l) => settleLost(l, `its session ended: ${session.reason ?? 'no heartbeat'}`)),
        );
        // Another master was quicker.
        if (settled === 0) break;
        env.log.warn('leases of an ended session taken back', { session_id: session.sessionId, leases: settled });
      }
  }

  /** What has become due: retries and scheduled tasks, and times to be started by. */
  async function dueRound(): Promise<void> {
    for (;;) {
      const { laneIds, moved } = await promoteDue(pools.hot, PROMOTE_ROWS);
      for (const laneId of laneIds) sinks.onReady(laneId);
      if (moved < PROMOTE_ROWS) break;
    }
    const deadline = await deadlines.start();
    dueAt = Number.POSITIVE_INFINITY;
    const next = await nextDueMs(pools.lease);
    if (next !== null) dueIn(next);
    if (deadline !== null) dueIn(deadline);
  }

  function dueIn(delayMs: number): void {
    const at = env.now() + delayMs;
    if (stopped || at >= dueAt) return;
    dueAt = at;
    clearTimeout(dueTimer);
    dueTimer = setTimeout(() => void attempt('promoting', dueRound), Math.min(MAX_TIMER_MS, Math.max(1, delayMs)));
  }

  /** One duty that fails does not keep the others from being done. */
  async function attempt(duty: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      env.log.warn('sweep failed', { duty, error: String(error) });
    }
  }

  async function round(): Promise<void> {
    await attempt('promoting', dueRound);
    await attempt('lanes', async () => {
      for (const lane of await lanes.refresh()) dispatcher.arm(lane.id);
    });
    dispatcher.armAll();
    await attempt('orders', () => sessions.look());
    await attempt('recall', () => deadlines.recall());
    if (rounds % SLOW_EVERY === 0) {
      await attempt('devices', () => freeOrphanDevices(pools.lease));
      await attempt('overdue work', () => deadlines.backUp());
      await attempt('masters', () => sinks.onSlowRound());
    }
    if (rounds % HOUSEKEEPING_EVERY === 0)
      await attempt('housekeeping', async () => {
        await ensurePartitions(pools.api);
        while ((await dropExpiredKeys(pools.api)) > 0 && !stopped);
        while ((await dropExpiredResults(pools.api)) > 0 && !stopped);
        while ((await dropOldSessions(pools.api)) > 0 && !stopped);
      });
    if (rounds % HOUSEKEEPING_EVERY === 0) await attempt('unused blobs', () => sweepBlobs(env));
    if (rounds % HOUSEKEEPING_EVERY === 0) sinks.onHousekeeping();
    sinks.onRound();
    rounds++;
  }

  async function repeat(work: () => Promise<void>): Promise<void> {
    while (!stopped) {
      await work();
      if (stopped) break;
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          wakes.delete(done);
          resolve();
        };
        const timer = setTimeout(done, settings.sweepIntervalMs * (0.75 + env.random() / 2));
        wakes.add(done);
      });
    }
  }

  return {
    start() {
      loops ??= Promise.all([repeat(() => attempt('sessions', sessionsRound)), repeat(round)]);
    },
    dueIn,
    async look() {
      await attempt('sessions', sessionsRound);
      await attempt('promoting', dueRound);
      await reclaiming;
    },
    async stop() {
      stopped = true;
      clearTimeout(dueTimer);
      for (const wake of [...wakes]) wake();
      await loops;
      await reclaiming;
    },
  };
}
