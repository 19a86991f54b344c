import {
  dropExpiredKeys,
  dropExpiredResults,
  dropOldSessions,
  ensurePartitions,
  freeOrphanDevices,
  leasesOf,
  lookAround,
  nextDueMs,
  promoteDue,
  type Sight,
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
import { type EngineSettings, outageMs } from '../settings.ts';
import { type Results, settleLost } from '../tasks/results.ts';

/**
 * The periodic duties of a master. Any number of masters may do them: each statement takes its lock for itself or skips what
 * another holds.
 *
 * Sessions are swept by a loop of their own: a long time without a sweep is taken for an outage, so no other work may hold it up.
 *
 * Each round begins with one look at what there is to do at all; where nothing is, that was the round. While nothing is ready, leased
 * or due, and nothing is done here, only one round in four is made.
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
  /** What other masters do is told here. Without that it is looked for in every turn. */
  areHintsHeard(): boolean;
  /** Once a round, which found this. */
  onRound(seen: Pick<Sight, 'advances' | 'breakers' | 'masters'>): void;
  /** Every five seconds or more. */
  onSlowRound(): Promise<void>;
  /** About every ten minutes. Returns at once. */
  onHousekeeping(): void;
}

const PROMOTE_ROWS = 1_000;
/** What need not be looked at each time: overdue work, lost devices. */
const SLOW_EVERY = 5;
/** As `failingWorkers` are looked for after the first time. */
const LATELY_MS = 60_000;
/** While nothing is there, one round in so many is made at most. */
const IDLE_ROUNDS = 4;
const HOUSEKEEPING_EVERY = 600;
/** Longest time for which one timer is set; the regular sweep sees to the rest. */
const MAX_TIMER_MS = 60_000;

/** One round in so many, when nothing is there: never so few that another master takes it for an outage. */
function idleRounds(settings: Pick<EngineSettings, 'leaseTtlMs' | 'sweepIntervalMs'>): number {
  return Math.max(1, Math.min(IDLE_ROUNDS, Math.floor(outageMs(settings) / 2 / (1.25 * settings.sweepIntervalMs))));
}

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
  /** Times that a round could have been made. */
  let turns = 0;
  let slowAt = 0;
  let housekeepingAt = 0;
  /** What was done here when the last look found nothing to do; null: it found something. */
  let idleSince: number | null = null;
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

  /** Grows whenever something happens here that may give the rounds something to do. */
  function done(): number {
    const now = counters.read();
    return now.baton_tasks_submitted_total + now.baton_tasks_granted_total + now.baton_run_steps_total;
  }

  const isIdle = () => idleSince !== null && idleSince === done() && sinks.areHintsHeard();

  async function round(): Promise<void> {
    const before = done();
    idleSince = null;
    await attempt('look', async () => {
      const sight = await lookAround(pools.lease, dispatcher.dry(), lanes.newest(), LATELY_MS);
      const { leases, advances, breakers, readyLanes, ordered } = sight;
      const isNothing = !leases && !advances && !breakers && readyLanes.length === 0 && ordered.length === 0;
      if (isNothing) idleSince = before;
      await attend(sight);
    });
    if (turns >= housekeepingAt) {
      housekeepingAt = turns + HOUSEKEEPING_EVERY;
      await housekeep();
    }
  }

  async function attend(sight: Sight): Promise<void> {
    const { dueMs, startMs } = sight;
    if ((dueMs ?? 1) <= 0 || (startMs ?? 1) <= 0) await attempt('promoting', dueRound);
    else {
      if (dueMs !== null) dueIn(dueMs);
      if (startMs !== null) dueIn(startMs);
    }
    for (const lane of lanes.learn(sight.lanes, sight.plannings)) dispatcher.arm(lane.id);
    for (const laneId of sight.readyLanes) dispatcher.arm(laneId);
    await attempt('orders', () => sessions.attend(sight.ordered));
    if (sight.leases) await attempt('recall', () => deadlines.recall());
    if (turns >= slowAt) {
      slowAt = turns + SLOW_EVERY;
      if (sight.devices) await attempt('devices', () => freeOrphanDevices(pools.lease));
      if (sight.leases || sight.progress) await attempt('overdue work', () => deadlines.backUp(sight.progress));
      await attempt('functions', () => sinks.onSlowRound());
    }
    sinks.onRound(sight);
  }

  async function housekeep(): Promise<void> {
    await attempt('housekeeping', async () => {
      await ensurePartitions(pools.api);
      while ((await dropExpiredKeys(pools.api)) > 0 && !stopped);
      while ((await dropExpiredResults(pools.api)) > 0 && !stopped);
      while ((await dropOldSessions(pools.api)) > 0 && !stopped);
    });
    await attempt('unused blobs', () => sweepBlobs(env));
    sinks.onHousekeeping();
  }

  const pause = () =>
    new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        wakes.delete(done);
        resolve();
      };
      const timer = setTimeout(done, settings.sweepIntervalMs * (0.75 + env.random() / 2));
      wakes.add(done);
    });

  /** Turn after turn; while nothing is there, rests for some of them. */
  async function repeat(work: () => Promise<void>, onTurn: () => void = () => {}): Promise<void> {
    const mostRests = idleRounds(settings) - 1;
    let rests = 0;
    while (!stopped) {
      onTurn();
      if (rests < mostRests && isIdle()) rests++;
      else {
        rests = 0;
        await work();
      }
      if (!stopped) await pause();
    }
  }

  const onTurn = () => {
    turns++;
    dispatcher.again();
  };

  return {
    start() {
      loops ??= Promise.all([repeat(() => attempt('sessions', sessionsRound)), repeat(round, onTurn)]);
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
