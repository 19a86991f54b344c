import type postgres from 'postgres';
import type { SentSignal } from './recorder.ts';

/** So many signals `relay` takes, each waited for so long at most, ms. */
export const SIGNALS = 3;
export const SIGNAL_MS = 20_000;

export interface SignalsChecked {
  readonly wrong: string[];
  /** Runs that ended by themselves, and signals that they took. */
  readonly relays: number;
  readonly taken: number;
}

/**
 * A signal that was acknowledged before its run had ended was taken, once, however often it was sent; nothing is taken that was not sent.
 */
export async function checkSignals(sql: postgres.Sql, sent: readonly SentSignal[]): Promise<SignalsChecked> {
  const wrong: string[] = [];
  let taken = 0;
  const byRun = Map.groupBy(sent, ({ runId }) => runId);
  const runs = await sql`
    select id, convert_from(output, 'UTF8') as output, (extract(epoch from ended_at) * 1000)::double precision as ended_ms
    from baton.runs where workflow_name = 'relay' and state = 'succeeded'`;
  for (const { id, output, ended_ms } of runs) {
    const parts = (JSON.parse(output as string) as (string | null)[]).filter((part) => part !== null);
    const signals = byRun.get(id as string) ?? [];
    taken += parts.length;
    if (new Set(parts).size < parts.length) wrong.push(`run ${id} took a signal twice: ${output}`);
    for (const part of parts)
      if (!signals.some(({ payload }) => payload === part)) wrong.push(`run ${id} took ${part}, which nobody sent`);
    for (const { payload, acknowledgedAtMs } of signals)
      if (acknowledgedAtMs !== null && acknowledgedAtMs < ended_ms && !parts.includes(payload))
        wrong.push(
          `signal ${payload} was acknowledged ${ended_ms - acknowledgedAtMs} ms before run ${id} ended without it`,
        );
  }
  return { wrong, relays: runs.length, taken };
}
