import type { Sql } from '../database/connection.ts';

/**
 * Moves what is due from waiting to ready. Rows that another master moves are skipped, so no lock is needed. A retry keeps its
 * task's place in the lane; a scheduled task gets the place of the time it was due.
 *
 * `due <= clock_timestamp()` would not be an index condition (35 ms over 1 M rows); the scalar subquery is (0.02 ms).
 */
export const PROMOTE = `/* baton promote */
with due as materialized (
  select w.ctid as at from baton.waiting w
  where w.due_at <= (select clock_timestamp()) order by w.due_at limit $1 for update skip locked
), moved as (
  delete from baton.waiting w using due where w.ctid = due.at returning w.*
), to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, infra, ooms, input_encoding)
  select task_id, case reason when 'scheduled' then greatest(task_id, baton.id_at(due_at)) else task_id end,
         run_id, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, infra, ooms, input_encoding
  from moved
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select array_agg(l.namespace_id), array_agg(2::smallint), array_agg(m.task_id), array_agg(coalesce(m.run_id, 0)), array_agg(m.attempt), array_agg(0)
  from moved m join baton.lanes l on l.id = m.lane_id having count(*) > 0
)
select task_id, lane_id from moved`;

/** @returns the lanes that have something ready now, and how many tasks moved */
export async function promoteDue(sql: Sql, limit: number): Promise<{ laneIds: Set<number>; moved: number }> {
  const rows = await sql.unsafe(PROMOTE, [limit], { prepare: true });
  return { laneIds: new Set(rows.map((r) => r.lane_id as number)), moved: rows.length };
}

/** Time until the next task is due, ms; null when none waits for a time. */
export async function nextDueMs(sql: Sql): Promise<number | null> {
  const [row] = await sql.unsafe(
    `/* baton next due */ select (extract(epoch from min(due_at) - clock_timestamp()) * 1000)::double precision as ms from baton.waiting where due_at is not null`,
    [],
    { prepare: true },
  );
  return row!.ms === null ? null : Math.max(0, row!.ms as number);
}
