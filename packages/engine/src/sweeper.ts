import {
  dropExpiredKeys,
  dropOldSessions,
  ensurePartitions,
  leasesOf,
  nextDueMs,
  overdueLeases,
  promoteDue,
  sweepSessions,
} from '@baton/store';
import type { Dispatcher } from './dispatcher.ts';
import type { EngineEnvironment } from './environment.ts';
import type { LaneBook } from './lane-book.ts';
import type { Counters } from './metrics.ts';
import { type Results, settleLost } from './results.ts';
import type { Sessions } from './sessions.ts';

/**
 * The periodic duties of a master. Any number of masters may do them: each statement takes its lock for itself or skips what
 * another holds.
 */
export interface Sweeper {
  start(): void;
  /** Something becomes due after this time. */
  dueIn(delayMs: number): void;
  stop(): Promise<void>;
}

const PROMOTE_ROWS = 1_000;
const OVERDUE_EVERY = 5;
const HOUSEKEEPING_EVERY = 600;
/** Longest time for which one timer is set; the regular sweep sees to the rest. */
const MAX_TIMER_MS = 60_000;

export function createSweeper(
  env: EngineEnvironment,
  lanes: LaneBook,
  dispatcher: Dispatcher,
  results: Results,
  sessions: Sessions,
  counters: Counters,
  onRound: () => void,
): Sweeper {
  const { pools, settings } = env;
  let stopped = false;
  let rounds = 0;
  let wake: (() => void) | null = null;
  let loop: Promise<void> | null = null;
  let dueTimer: ReturnType<typeof setTimeout> | undefined;
  let dueAt = Number.POSITIVE_INFINITY;

  async function sessionsRound(): Promise<void> {
    const over = await sweepSessions(pools.lease);
    for (const session of over) {
      if (session.now) {
        counters.add('baton_sessions_lost_total');
        sessions.forget(session.sessionId);
        env.log.warn('session expired', { session_id: session.sessionId });
      }
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
  }

  async function promoteRound(): Promise<void> {
    for (;;) {
      const { laneIds, moved } = await promoteDue(pools.hot, PROMOTE_ROWS);
      for (const laneId of laneIds) dispatcher.arm(laneId);
      if (moved < PROMOTE_ROWS) break;
    }
    dueAt = Number.POSITIVE_INFINITY;
    const next = await nextDueMs(pools.lease);
    if (next !== null) dueIn(next);
  }

  async function overdueRound(): Promise<void> {
    const overdue = await overdueLeases(pools.lease, 2 * settings.heartbeatIntervalMs);
    await Promise.all(
      overdue.map((lease) =>
        results.report({
          ...lease,
          ranUs: lease.startToCloseMs * 1000,
          outcome: {
            type: 'failure',
            failure: { type: 'TASK_TIMEOUT', message: `not ended ${lease.startToCloseMs} ms after its start` },
          },
        }),
      ),
    );
  }

  function dueIn(delayMs: number): void {
    const at = env.now() + delayMs;
    if (stopped || at >= dueAt) return;
    dueAt = at;
    clearTimeout(dueTimer);
    dueTimer = setTimeout(
      () => {
        void promoteRound().catch((error) => env.log.warn('promoting failed', { error: String(error) }));
      },
      Math.min(MAX_TIMER_MS, Math.max(1, delayMs)),
    );
  }

  async function run(): Promise<void> {
    while (!stopped) {
      try {
        await sessionsRound();
        await promoteRound();
        const fresh = await lanes.refresh();
        for (const lane of fresh) dispatcher.arm(lane.id);
        if (rounds % OVERDUE_EVERY === 0) await overdueRound();
        if (rounds % HOUSEKEEPING_EVERY === 0) {
          await ensurePartitions(pools.api);
          await dropExpiredKeys(pools.api);
          await dropOldSessions(pools.api);
        }
        dispatcher.armAll();
        onRound();
        rounds++;
      } catch (error) {
        env.log.warn('sweep failed', { error: String(error) });
      }
      if (stopped) break;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, settings.sweepIntervalMs * (0.75 + env.random() / 2));
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  return {
    start() {
      loop ??= run();
    },
    dueIn,
    async stop() {
      stopped = true;
      clearTimeout(dueTimer);
      wake?.();
      await loop;
    },
  };
}
