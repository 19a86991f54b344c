import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';

/** A sign of a running task itself, as its worker tells it. */
export interface NewSign {
  taskId: string;
  epoch: number;
  /** Since its last sign. */
  silentMs: number;
  /** Longest silence; null: no limit. */
  timeoutMs: number | null;
  /** 0 to 1; null: nothing new. */
  fraction: number | null;
  /** Null: nothing new. */
  message: string | null;
}

/**
 * Keeps the signs of tasks whose lease, with this epoch, is held by this session; others leave nothing. A sign of an older epoch never
 * takes the place of a newer one's, and what a task said stays until it says something else.
 */
export const WRITE_SIGNS = `/* baton write signs */
with input as materialized (
  select distinct on (task_id) *
  from unnest($2::bigint[], $3::integer[], $4::double precision[], $5::bigint[], $6::real[], $7::text[])
    i(task_id, epoch, silent_ms, timeout_ms, fraction, message)
  order by task_id, epoch desc, silent_ms
), held as materialized (
  select i.*, l.granted_at from input i cross join lateral (
    select l.granted_at from baton.leases l where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = $1 limit 1
  ) l
)
insert into baton.progress as p (task_id, session_id, sign_at, timeout_ms, epoch, fraction, message)
select task_id, $1, greatest(granted_at, clock_timestamp() - silent_ms * interval '1 ms'), timeout_ms, epoch, fraction, message
from held order by task_id
on conflict (task_id) do update set
  session_id = excluded.session_id, timeout_ms = excluded.timeout_ms, epoch = excluded.epoch,
  sign_at = case when p.epoch = excluded.epoch then greatest(p.sign_at, excluded.sign_at) else excluded.sign_at end,
  fraction = case when p.epoch = excluded.epoch then coalesce(excluded.fraction, p.fraction) else excluded.fraction end,
  message = case when p.epoch = excluded.epoch then coalesce(excluded.message, p.message) else excluded.message end
where p.epoch <= excluded.epoch`;

export async function writeSigns(sql: Sql, sessionId: string, signs: readonly NewSign[]): Promise<void> {
  if (signs.length === 0) return;
  await sql.unsafe(
    WRITE_SIGNS,
    [
      sessionId,
      numbers(signs.map((s) => s.taskId)),
      numbers(signs.map((s) => s.epoch)),
      numbers(signs.map((s) => s.silentMs)),
      numbers(signs.map((s) => s.timeoutMs)),
      numbers(signs.map((s) => s.fraction)),
      texts(signs.map((s) => s.message)),
    ],
    { prepare: true },
  );
}

/** Forgets signs of leases that have ended. Returns how many. */
export async function dropStaleProgress(sql: Sql, limit: number): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop progress */
     with stale as materialized (
       select p.ctid as at from baton.progress p
       where not exists (select from baton.leases l where l.task_id = p.task_id and l.epoch = p.epoch) limit $1 for update of p skip locked
     )
     delete from baton.progress p using stale where p.ctid = stale.at returning 1`,
    [limit],
    { prepare: true },
  );
  return rows.length;
}
