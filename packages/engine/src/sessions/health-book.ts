import { dropHealthMinutes, recordHealth, type ToldHealth } from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { EngineEnvironment } from '../environment.ts';

/** Keeps what workers tell of their machines. Nothing waits for it, and nothing fails because of it. */
export interface HealthBook {
  note(told: ToldHealth): void;
  forget(sessionId: string): void;
  /** Minutes of yesterday and before. */
  dropOld(): Promise<void>;
}

/** Unchanged verdicts are not written more often. */
const WRITE_EVERY_MS = 15_000;
const KEEP_MS = 86_400_000;

export function createHealthBook(env: EngineEnvironment): HealthBook {
  const sql = env.pools.api;
  const written = new Map<string, { at: number; verdict: string }>();

  const writes = createCoalescer<ToldHealth, null>({
    maxItems: 200,
    gatherMs: 50,
    run: async (batch) => {
      // The newest of each session: a row can change once in a statement.
      const bySession = new Map(batch.map((told) => [told.sessionId, told]));
      await recordHealth(sql, [...bySession.values()]);
      return batch.map(() => null);
    },
  });

  return {
    note(told) {
      const verdict = JSON.stringify([told.healthy, told.sample.issues, (told.report as { gates?: unknown }).gates]);
      const before = written.get(told.sessionId);
      if (before && before.verdict === verdict && env.now() - before.at < WRITE_EVERY_MS) return;
      written.set(told.sessionId, { at: env.now(), verdict });
      writes.add(told).catch((error: unknown) => {
        written.delete(told.sessionId);
        env.log.warn('health of a machine not kept', { session_id: told.sessionId, error: String(error) });
      });
    },
    forget(sessionId) {
      written.delete(sessionId);
    },
    async dropOld() {
      try {
        while ((await dropHealthMinutes(sql, KEEP_MS)) > 0);
      } catch (error) {
        env.log.warn('old health of machines not dropped', { error: String(error) });
      }
    },
  };
}
