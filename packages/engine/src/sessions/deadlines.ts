import {
  dropStaleProgress,
  nextStartDeadlineMs,
  overdueLeases,
  recallFor,
  recallTasks,
  silentLeases,
  sweepStartDeadlines,
} from '@baton/store';
import type { Dispatcher } from '../dispatch/dispatcher.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import type { Results } from '../tasks/results.ts';
import type { OrderBook } from './orders.ts';

/** The times that tasks have, and the leases that others wait for. Any master may do all of it at any moment. */
export interface Deadlines {
  /** Ends tasks that nobody started in time. Returns when the next time is over, ms from now; null: none is set. */
  start(): Promise<number | null>;
  /** Ends leases that their workers should have ended: start-to-close and, where signs of tasks are kept, progress. */
  backUp(withSigns: boolean): Promise<void>;
  /** Has unstarted leases handed back that workers wait for. */
  recall(): Promise<void>;
}

export interface DeadlineSinks {
  onEnded(taskId: string, runId: string | null): void;
  /** Another master may be the one that has something to say to this session. */
  onOrders(sessionId: string): void;
}

const ROWS = 500;
/** The code of a stopped attempt has this long to end, on the worker; see its abort grace. */
const ABORT_GRACE_MS = 2_000;
/** An offer that has waited so long waits for what others hold. */
const HUNGRY_MS = 1_000;
/** Kinds of waiting workers that one round asks for. */
const MAX_ASKED = 8;

/** How long after its time the master ends what the worker should have ended: two heartbeats in which it could have said so, and the grace. */
export function backUpGraceMs(heartbeatIntervalMs: number): number {
  return 2 * heartbeatIntervalMs + ABORT_GRACE_MS;
}

export function createDeadlines(
  env: EngineEnvironment,
  dispatcher: Pick<Dispatcher, 'hungry'>,
  results: Results,
  orders: Pick<OrderBook, 'look'>,
  counters: Counters,
  sinks: DeadlineSinks,
): Deadlines {
  const { pools, settings } = env;

  async function ask(sessionIds: readonly string[]): Promise<void> {
    if (sessionIds.length === 0) return;
    await orders.look(sessionIds);
    for (const sessionId of sessionIds) sinks.onOrders(sessionId);
  }

  return {
    async start() {
      for (;;) {
        const { ended, unstarted } = await sweepStartDeadlines(pools.lease, ROWS);
        counters.add('baton_tasks_failed_total', ended.length);
        for (const { taskId, runId, failure } of ended) {
          env.log.info('task failed', {
            task_id: taskId,
            run_id: runId,
            failure: failure.type,
            reason: failure.message,
          });
          sinks.onEnded(taskId, runId);
        }
        if (unstarted.length > 0) {
          const asked = await recallTasks(
            pools.lease,
            unstarted.map((lease) => lease.taskId),
          );
          await ask(asked.map((recall) => recall.sessionId));
        }
        if (ended.length < ROWS) return nextStartDeadlineMs(pools.lease);
      }
    },

    async backUp(withSigns) {
      const graceMs = backUpGraceMs(settings.heartbeatIntervalMs);
      const overdue = await overdueLeases(pools.lease, graceMs);
      const silent = withSigns ? await silentLeases(pools.lease, graceMs) : [];
      const late = [
        ...overdue.map((lease) => ({ lease, message: `not ended ${lease.startToCloseMs} ms after its start` })),
        ...silent.map((lease) => ({ lease, message: `no sign for ${lease.timeoutMs} ms` })),
      ];
      await Promise.all(
        late.map(async ({ lease: { taskId, epoch, sessionId }, message }) => {
          const failure = { type: 'TASK_TIMEOUT', message } as const;
          const verdict = await results.report({
            taskId,
            epoch,
            sessionId,
            // How long it ran, its worker has not said; when it began, it has.
            ranUs: 0,
            outcome: { type: 'failure', failure },
          });
          if (verdict === null)
            env.log.warn('task ended in the place of its worker', {
              task_id: taskId,
              lease_epoch: epoch,
              reason: message,
            });
        }),
      );
      while (withSigns && (await dropStaleProgress(pools.lease, ROWS)) === ROWS);
    },

    async recall() {
      const hungry = dispatcher.hungry(HUNGRY_MS);
      if (hungry.length === 0) return;
      const waiting = hungry.map((offer) => offer.sessionId);
      const kinds = new Map(hungry.map((offer) => [offer.laneIds.join(','), offer.laneIds]));
      for (const laneIds of [...kinds.values()].slice(0, MAX_ASKED)) {
        const asked = await recallFor(pools.lease, laneIds, waiting);
        if (!asked) continue;
        env.log.info('leases recalled that others wait for', { session_id: asked.sessionId, leases: asked.count });
        await ask([asked.sessionId]);
      }
    },
  };
}
