import { setTimeout as sleep } from 'node:timers/promises';
import type postgres from 'postgres';

export interface Outage {
  readonly fromMs: number;
  readonly toMs: number;
}

const LOOK_EVERY_MS = 200;
/** Masters sweep several times a second; whoever did not for so long was away. */
const GAP_MS = 1_000;

/**
 * Notes the times in which no master swept sessions: Postgres or all masters were away. Returns what stops it and gives them.
 */
export function watchOutages(sql: postgres.Sql): () => Promise<Outage[]> {
  const outages: Outage[] = [];
  let stopped = false;
  let before: number | undefined;
  const watching = (async () => {
    while (!stopped) {
      const [row] = await sql`
        select (extract(epoch from last_at) * 1000)::double precision as at
        from baton.sweeps where name = 'sessions'`.catch(() => []);
      const at = row?.at as number | undefined;
      if (at !== undefined) {
        if (before !== undefined && at - before > GAP_MS) outages.push({ fromMs: before, toMs: at });
        before = at;
      }
      await sleep(LOOK_EVERY_MS);
    }
  })();
  return async () => {
    stopped = true;
    await watching;
    return outages;
  };
}
