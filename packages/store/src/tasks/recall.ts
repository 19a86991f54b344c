import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import { UNSTARTED_MS } from './deadlines.ts';

/** Any number that all Batons agree on, unlike the others. */
const RECALL_LOCK = 0x62617433;

/** Leases that one look goes through at most: it is a hint where to ask, and the next look comes in a second. */
const LOOK_AT = 10_000;

/** A session is asked to hand back so many leases that it has not started. */
export interface Recall {
  sessionId: string;
  count: number;
}

/**
 * Somebody waits for work in these lanes, and nothing is ready: asks the living session with the most leases there that are not
 * known to have been started, a second after they were granted, to hand them back. Whoever holds such leases does not wait itself,
 * though it offers to fetch more ahead. One session at a time, one master at a time, and none that has not answered for the last
 * recall. Unstarted leases hold neither a device nor a slot, so nothing else is given back.
 */
export const RECALL = `/* baton recall */
with mine as materialized (
  select pg_try_advisory_xact_lock(${RECALL_LOCK}) as got
), stuck as materialized (
  select l.session_id from baton.leases l, mine
  where mine.got and l.started_at is null and l.cancel_reason is null and l.lane_id = any($1::integer[])
    and l.granted_at < clock_timestamp() - interval '${UNSTARTED_MS} ms'
  limit ${LOOK_AT}
), idle as materialized (
  select w.id from unnest($2::bigint[]) w(id) where not exists (select from stuck where stuck.session_id = w.id)
), most as materialized (
  select s.id, h.count from (select session_id, count(*)::integer as count from stuck group by session_id) h
  join baton.sessions s on s.id = h.session_id
  where s.state <> 'closed' and s.expires_at > clock_timestamp() and s.recall = 0 and exists (select from idle)
  order by h.count desc, s.id limit 1 for update of s skip locked
)
update baton.sessions s set recall = m.count from most m where s.id = m.id returning s.id, s.recall`;

/** @param waiting the sessions that wait */
export async function recallFor(
  sql: Sql,
  laneIds: readonly number[],
  waiting: readonly string[],
): Promise<Recall | null> {
  const [row] = await sql.unsafe(RECALL, [numbers(laneIds), numbers(waiting)], { prepare: true });
  return row ? { sessionId: row.id as string, count: row.recall as number } : null;
}

/**
 * Asks for these tasks' leases, and with each for those that were granted after it and not started: a worker hands back the newest first.
 */
export const RECALL_TASKS = `/* baton recall tasks */
with wanted as materialized (
  select l.session_id, min(l.granted_at) as since
  from unnest($1::bigint[]) i(task_id) cross join lateral (
    select l.session_id, l.granted_at from baton.leases l where l.task_id = i.task_id and l.started_at is null limit 1
  ) l group by l.session_id
), counted as materialized (
  select w.session_id, (select count(*)::integer from baton.leases l where l.session_id = w.session_id and l.started_at is null and l.granted_at >= w.since) as count
  from wanted w
), held as materialized (
  select s.id, c.count from counted c join baton.sessions s on s.id = c.session_id
  where s.state <> 'closed' and s.recall < c.count order by s.id for update of s
)
update baton.sessions s set recall = h.count from held h where s.id = h.id returning s.id, s.recall`;

export async function recallTasks(sql: Sql, taskIds: readonly string[]): Promise<Recall[]> {
  const rows = await sql.unsafe(RECALL_TASKS, [numbers(taskIds)], { prepare: true });
  return rows.map((r) => ({ sessionId: r.id as string, count: r.recall as number }));
}

/** What the master says to a session besides work. */
export interface SessionOrders {
  sessionId: string;
  state: 'active' | 'draining' | 'closed';
  shutdown: boolean;
  /** To be handed back; told once. */
  recall: number;
  cancels: { taskId: string; epoch: number; reason: string }[];
}

/**
 * What there is to say to sessions that are connected here, whoever said it where. A recall is told once and no more; cancels are
 * found by the index of those that were asked for. Sessions that are gone are missing in the answer.
 */
export const TAKE_ORDERS = `/* baton take orders */
with ids as materialized (
  select id from unnest($1::bigint[]) i(id) order by id
), asked as materialized (
  select s.id, s.recall from ids join baton.sessions s on s.id = ids.id where s.recall > 0 order by s.id for update of s
), told as (
  update baton.sessions s set recall = 0 from asked where s.id = asked.id
)
select s.id, s.state, s.shutdown, coalesce(asked.recall, 0) as recall, c.cancels
from ids join baton.sessions s on s.id = ids.id left join asked on asked.id = s.id cross join lateral (
  select coalesce(jsonb_agg(jsonb_build_object('taskId', l.task_id::text, 'epoch', l.epoch, 'reason', l.cancel_reason)), '[]') as cancels
  from baton.leases l where l.session_id = s.id and l.cancel_reason is not null
) c`;

export async function takeOrders(sql: Sql, sessionIds: readonly string[]): Promise<SessionOrders[]> {
  if (sessionIds.length === 0) return [];
  const rows = await sql.unsafe(TAKE_ORDERS, [numbers(sessionIds)], { prepare: true });
  return rows.map((r) => ({
    sessionId: r.id as string,
    state: r.state as SessionOrders['state'],
    shutdown: r.shutdown as boolean,
    recall: r.recall as number,
    cancels: r.cancels as SessionOrders['cancels'],
  }));
}
