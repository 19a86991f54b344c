import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import { LANE_COLUMNS, type Lane, toLane } from './lanes.ts';

/** Where a living task stands for being granted. */
export interface Standing {
  place: 'ready' | 'waiting' | 'leased';
  /** The lane that it is in now, with its pause as it is now. */
  lane: Lane;
  /** When it may be leased for the first time, or again; null: blocked, or not waiting. */
  dueAt: Date | null;
  /** Since when it is ready, as far as its place tells; null: it is not. */
  readySince: Date | null;
  /** Ready tasks of its lane that go before it, counted up to 10 000. */
  ahead: number;
  /** Of the lease, if there is one. */
  lease: { worker: string; grantedAt: Date; startedAt: Date | null; heardMs: number; sessionState: string } | null;
}

export const READ_STANDING = `/* baton read standing */
with found as materialized (
  select case when l.task_id is not null then 'leased' when y.task_id is not null then 'ready' else 'waiting' end as place,
         coalesce(l.lane_id, y.lane_id, w.lane_id) as lane, y.priority as ready_priority, y.position as ready_position, w.due_at,
         l.session_id, l.granted_at, l.started_at
  from (select $1::bigint as id) t
  left join baton.ready y on y.task_id = t.id
  left join baton.waiting w on w.task_id = t.id
  left join baton.leases l on l.task_id = t.id
  where coalesce(y.task_id, w.task_id, l.task_id) is not null
)
select f.*, baton.id_time(f.ready_position) as ready_since, ${LANE_COLUMNS}, k.name as worker, s.state as session_state,
  (extract(epoch from clock_timestamp() - s.renewed_at) * 1000)::double precision as heard_ms,
  -- Two ranges of the index: as one condition they would be none.
  (select count(*)::integer from (
     (select from baton.ready y where y.lane_id = f.lane and y.priority > f.ready_priority limit 10000)
     union all
     (select from baton.ready y where y.lane_id = f.lane and y.priority = f.ready_priority and y.position < f.ready_position limit 10000)
     limit 10000) x) as ahead
from found f join baton.lanes l on l.id = f.lane join baton.routes r on r.id = l.route_id
left join baton.sessions s on s.id = f.session_id left join baton.workers k on k.id = s.worker_id`;

/** Null: it has ended, or does not exist. */
export async function readStanding(sql: Sql, taskId: string): Promise<Standing | null> {
  const [row] = await sql.unsafe(READ_STANDING, [taskId], { prepare: true });
  if (!row) return null;
  return {
    place: row.place as Standing['place'],
    lane: toLane(row),
    dueAt: row.due_at as Date | null,
    readySince: row.ready_since as Date | null,
    ahead: row.ahead as number,
    lease: row.session_id
      ? {
          worker: row.worker as string,
          grantedAt: row.granted_at as Date,
          startedAt: row.started_at as Date | null,
          heardMs: row.heard_ms as number,
          sessionState: row.session_state as string,
        }
      : null,
  };
}

/** The living session of a worker, with what it holds. */
export interface BusyWorker {
  sessionId: string;
  namespaceId: number;
  workerId: number;
  workerName: string;
  state: 'active' | 'draining';
  reason: string | null;
  /** Its breaker is not closed. */
  heldBack: boolean;
  capabilities: Record<string, unknown>;
  leases: number;
  /** In the way of all new work, in words: its closed gates, as told of late. */
  gates: string[];
}

/** Living workers of a namespace, those that drain too, by name. */
export async function livingWorkers(sql: Sql, namespaceId: number): Promise<BusyWorker[]> {
  const rows = await sql.unsafe(
    `/* baton living workers */
     select s.id, w.id as worker_id, w.name, s.state, s.reason, s.held_back, w.capabilities,
            (select count(*)::integer from baton.leases l where l.session_id = s.id) as leases,
            coalesce((select jsonb_agg(g ->> 'message') from baton.worker_health h cross join jsonb_array_elements(h.report -> 'gates') g
                      where h.worker_id = w.id and h.session_id = s.id and coalesce(g ->> 'device', '') = ''), '[]') as gates
     from baton.workers w join baton.sessions s on s.id = w.session_id
     where w.namespace_id = $1 and s.state <> 'closed' and s.expires_at > clock_timestamp() order by w.name`,
    [namespaceId],
    { prepare: true },
  );
  return rows.map((r) => ({
    sessionId: r.id as string,
    namespaceId,
    workerId: r.worker_id as number,
    workerName: r.name as string,
    state: r.state as BusyWorker['state'],
    reason: r.reason as string | null,
    heldBack: r.held_back as boolean,
    capabilities: r.capabilities as Record<string, unknown>,
    leases: r.leases as number,
    gates: r.gates as string[],
  }));
}

export interface HeldKind {
  kind: string;
  count: number;
  /** The oldest grant among them. */
  since: Date;
}

/** What these sessions hold, by kind, the most first. */
export async function kindsHeld(sql: Sql, sessionIds: readonly string[]): Promise<Map<string, HeldKind[]>> {
  const rows = await sql.unsafe(
    `/* baton kinds held */
     select l.session_id, r.kind, count(*)::integer as count, min(l.granted_at) as since
     from unnest($1::bigint[]) i(id) join baton.leases l on l.session_id = i.id
     join baton.lanes n on n.id = l.lane_id join baton.routes r on r.id = n.route_id
     group by l.session_id, r.kind order by count desc, r.kind`,
    [numbers(sessionIds)],
    { prepare: true },
  );
  const held = new Map<string, HeldKind[]>();
  for (const row of rows) {
    const id = row.session_id as string;
    const list = held.get(id) ?? [];
    held.set(id, list);
    list.push({ kind: row.kind as string, count: row.count as number, since: row.since as Date });
  }
  return held;
}
