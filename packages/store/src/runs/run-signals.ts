import type { Sql } from '../database/connection.ts';
import type { Encoding } from '../tasks/new-task.ts';

export interface NewSignal {
  id: string;
  namespaceId: number;
  runId: string;
  name: string;
  encoding: Encoding;
  payload: Uint8Array | null;
  key: string | null;
}

/**
 * Keeps a signal until it is waited for, with an advance of its run, in one statement. `open`: the run's state then; null: there is no
 * such run. Nothing is kept for a run that has ended, and nothing twice for the same key. `known`: it was kept before, which its caller may
 * not have heard, though the run has ended meanwhile.
 */
export async function insertSignal(
  sql: Sql,
  signal: NewSignal,
): Promise<{ state: string; form: string; stored: boolean; known: boolean } | null> {
  const [row] = await sql.unsafe(
    `/* baton signal run */
     with run as materialized (
       select id, state, form from baton.runs where id = $2 and namespace_id = $3 for share
     ), kept as (
       insert into baton.run_signals (id, run_id, name, encoding, payload, key)
       select $1, run.id, $4, $5, $6, $7 from run where run.state in ('pending', 'running', 'waiting') and run.form = 'function'
       on conflict do nothing returning run_id
     ), advanced as (
       insert into baton.advances (run_id) select run_id from kept
     )
     select run.state, run.form, exists (select from kept) as stored,
            exists (select from baton.run_signals s where s.run_id = run.id and (s.id = $1 or s.key = $7)) as known from run`,
    [signal.id, signal.runId, signal.namespaceId, signal.name, signal.encoding, signal.payload, signal.key] as never[],
    { prepare: true },
  );
  return row
    ? {
        state: row.state as string,
        form: row.form as string,
        stored: row.stored as boolean,
        known: row.known as boolean,
      }
    : null;
}
