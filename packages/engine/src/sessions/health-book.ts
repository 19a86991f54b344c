import { dropHealthMinutes, recordHealth, type ToldHealth } from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { EngineEnvironment } from '../environment.ts';
import { createWriteBehind } from './write-behind.ts';

/** Keeps what workers tell of their machines. Nothing waits for it, and nothing fails because of it. */
export interface HealthBook {
  note(told: ToldHealth): void;
  forget(sessionId: string): void;
  /** Minutes of yesterday and before. */
  dropOld(): Promise<void>;
  stop(): Promise<void>;
}

/** Unchanged verdicts are not written more often, */
const WRITE_EVERY_MS = 15_000;
/** and then those of many workers together, so much later. */
const UNCHANGED_MS = 10_000;
const KEEP_MS = 86_400_000;

export function createHealthBook(env: EngineEnvironment): HealthBook {
  const sql = env.pools.api;
  const written = new Map<string, { at: number; verdict: string }>();

  const writes = createCoalescer<ToldHealth, null>({
    maxItems: 1_000,
    gatherMs: 50,
    run: async (batch) => {
      // The newest of each session: a row can change once in a statement.
      const bySession = new Map(batch.map((told) => [told.sessionId, told]));
      await recordHealth(sql, [...bySession.values()]);
      return batch.map(() => null);
    },
  });

  const write = (told: ToldHealth) =>
    writes.add(told).catch((error: unknown) => {
      written.delete(told.sessionId);
      env.log.warn('health of a machine not kept', { session_id: told.sessionId, error: String(error) });
    });

  /** The newest of each session whose verdict is what it was, and when it was told. */
  const unchanged = new Map<string, { told: ToldHealth; at: number }>();
  const behind = createWriteBehind(UNCHANGED_MS, async () => {
    const now = env.now();
    const due = [...unchanged.values()].map(({ told, at }) => ({ ...told, ageMs: told.ageMs + Math.max(0, now - at) }));
    unchanged.clear();
    await Promise.all(due.map(write));
  });

  return {
    note(told) {
      const { sessionId } = told;
      const verdict = JSON.stringify([told.healthy, told.sample.issues, (told.report as { gates?: unknown }).gates]);
      const at = env.now();
      const before = written.get(sessionId);
      if (before?.verdict === verdict) {
        if (at - before.at < WRITE_EVERY_MS) return;
        unchanged.set(sessionId, { told, at });
        written.set(sessionId, { at, verdict });
        behind.soon();
        return;
      }
      unchanged.delete(sessionId);
      written.set(sessionId, { at, verdict });
      void write(told);
    },
    forget(sessionId) {
      written.delete(sessionId);
      unchanged.delete(sessionId);
    },
    async dropOld() {
      try {
        while ((await dropHealthMinutes(sql, KEEP_MS)) > 0);
      } catch (error) {
        env.log.warn('old health of machines not dropped', { error: String(error) });
      }
    },
    stop: behind.stop,
  };
}
