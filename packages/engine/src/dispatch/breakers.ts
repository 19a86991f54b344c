import { type BreakerState, Refusal } from '@baton/domain';
import {
  type BreakerRow,
  failingWorkers,
  findWorker,
  listBreakers,
  namesInNamespace,
  readIncidents,
  stepBreaker,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';
import { failuresOf } from './breaker-book.ts';

/** A breaker as people see it. */
export interface SeenBreaker {
  worker: string;
  device: string;
  state: BreakerState;
  reason: string;
  /** Null: it has never opened. */
  changedAt: Date | null;
  /** When an open one lets a probe through. */
  probeAt: Date | null;
  successes: number;
  probeTaskId: string | null;
  /** Machine-made failures within the window, and since it closed, that have no task in common. */
  failures: number;
}

/** Looking at breakers, and closing them by hand. */
export interface Breakers {
  /** By worker and device. @param includeClosed also those that are closed: they have opened before, or count failures now */
  list(namespaceId: number, worker: string | null, includeClosed: boolean): Promise<SeenBreaker[]>;
  /** Closes it, whatever it is; failures before now no longer count. @returns its state before. @throws Refusal WORKER_NOT_FOUND */
  reset(namespaceId: number, worker: string, device: string): Promise<BreakerState>;
}

const MOST_TRIES = 10;

/** @param onMoved told that work may go where it could not go before */
export function createBreakers(env: EngineEnvironment, onMoved: () => void): Breakers {
  const { api } = env.pools;
  const { windowMs, openMs } = env.settings.breaker;

  const seen = (row: BreakerRow, failures: number): SeenBreaker => ({
    worker: row.worker,
    device: row.device,
    state: row.state,
    reason: row.reason,
    changedAt: row.changedAt,
    probeAt: row.state === 'open' ? new Date(row.changedAt.getTime() + openMs) : null,
    successes: row.successes,
    probeTaskId: row.probeTaskId,
    failures,
  });

  return {
    async list(namespaceId, worker, includeClosed) {
      const rows = await listBreakers(api, namespaceId, worker);
      const failing = includeClosed ? await failingWorkers(api, windowMs) : [];
      const names = await namesInNamespace(api, namespaceId, failing);
      const ids = new Set(rows.map((row) => row.workerId));
      for (const [id, name] of names) if (worker === null || name === worker) ids.add(id);
      const counted = failuresOf(await readIncidents(api, [...ids], windowMs));
      const failuresAt = new Map(counted.map((c) => [`${c.workerId} ${c.device}`, c.failures]));
      const all = rows.map((row) => seen(row, failuresAt.get(`${row.workerId} ${row.device}`) ?? 0));
      const known = new Set(rows.map((row) => `${row.workerId} ${row.device}`));
      if (includeClosed)
        for (const { workerId, device, failures } of counted)
          if (!known.has(`${workerId} ${device}`))
            all.push({
              worker: names.get(workerId)!,
              device,
              state: 'closed',
              reason: '',
              changedAt: null,
              probeAt: null,
              successes: 0,
              probeTaskId: null,
              failures,
            });
      return all
        .filter((breaker) => includeClosed || breaker.state !== 'closed')
        .sort((a, b) => compare(a.worker, b.worker) || compare(a.device, b.device));
    },

    async reset(namespaceId, worker, device) {
      const workerId = await findWorker(api, namespaceId, worker);
      if (workerId === null)
        throw new Refusal('not_found', 'WORKER_NOT_FOUND', `no worker is named ${JSON.stringify(worker)}`);
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        const row = (await listBreakers(api, namespaceId, worker)).find((breaker) => breaker.device === device);
        if (!row) {
          // It has never opened. There is something to forget only if it counts failures.
          const incidents = await readIncidents(api, [workerId], windowMs);
          if (!incidents.some((incident) => incident.device === device)) return 'closed';
        }
        const from = row?.state ?? 'closed';
        const done = await persist(
          () =>
            stepBreaker(api, {
              workerId,
              device,
              from,
              countedFrom: row?.countedFrom ?? null,
              probeTaskId: row?.probeTaskId ?? null,
              probeEpoch: row?.probeEpoch ?? null,
              to: 'closed',
              successes: 0,
              reason: 'reset by a client',
            }),
          env.random,
        );
        if (!done) continue;
        env.log.info('breaker reset', { worker, device, from });
        onMoved();
        return from;
      }
      throw new Refusal('unavailable', 'BUSY', 'the breaker keeps moving; try again', { retryAfterMs: 100 });
    },
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
