import type { Sql } from '../database/connection.ts';
import { jsons, numbers } from '../database/literals.ts';

/** What a session tells of its machine. */
export interface ToldHealth {
  sessionId: string;
  healthy: boolean;
  /** Before now. */
  ageMs: number;
  /** MachineHealth of the contract, as its JSON. */
  report: object;
  /** Of the report, what a chart needs; `issues` are codes. */
  sample: { issues: string[]; [value: string]: unknown };
}

/**
 * Keeps reports of sessions, the newest of each worker and one sample a minute. A session that is not its worker's newest has nothing
 * more to say, and an older report does not replace a newer one.
 */
export const RECORD_HEALTH = `/* baton record health */
with input as materialized (
  select * from unnest($1::bigint[], $2::boolean[], $3::double precision[], $4::text[], $5::text[]) i(session_id, healthy, age_ms, report, sample)
), mine as materialized (
  select w.id as worker_id, i.session_id, i.healthy, clock_timestamp() - i.age_ms * interval '1 ms' as at, i.report::jsonb as report,
         i.sample::jsonb as sample
  from input i join baton.sessions s on s.id = i.session_id join baton.workers w on w.id = s.worker_id and w.session_id = s.id
  order by w.id
), newest as (
  insert into baton.worker_health as h (worker_id, session_id, at, healthy, report)
  select worker_id, session_id, at, healthy, report from mine
  on conflict (worker_id) do update set session_id = excluded.session_id, at = excluded.at, healthy = excluded.healthy, report = excluded.report
  where h.at < excluded.at
)
insert into baton.health_minutes as m (worker_id, minute, healthy, sample)
select worker_id, date_trunc('minute', at), healthy, sample from mine
on conflict (worker_id, minute) do update set healthy = m.healthy and excluded.healthy,
  sample = excluded.sample || jsonb_build_object('issues', (
    select coalesce(jsonb_agg(distinct code), '[]') from jsonb_array_elements((m.sample -> 'issues') || (excluded.sample -> 'issues')) i(code)))`;

/** At most one of each session. */
export async function recordHealth(sql: Sql, told: readonly ToldHealth[]): Promise<void> {
  await sql.unsafe(
    RECORD_HEALTH,
    [
      numbers(told.map((t) => t.sessionId)),
      `{${told.map((t) => t.healthy).join(',')}}`,
      numbers(told.map((t) => t.ageMs)),
      jsons(told.map((t) => t.report)),
      jsons(told.map((t) => t.sample)),
    ],
    { prepare: true },
  );
}

export interface HealthMinute {
  minute: Date;
  healthy: boolean;
  sample: Record<string, unknown>;
}

/** Of one worker, the oldest first. */
export async function readHealthMinutes(sql: Sql, workerId: number, minutes: number): Promise<HealthMinute[]> {
  const rows = await sql.unsafe(
    `/* baton read health */ select minute, healthy, sample from baton.health_minutes
     where worker_id = $1 and minute > (select clock_timestamp() - $2::double precision * interval '1 minute') order by minute`,
    [workerId, minutes],
    { prepare: true },
  );
  return rows.map((r) => ({
    minute: r.minute as Date,
    healthy: r.healthy as boolean,
    sample: r.sample as Record<string, unknown>,
  }));
}

export interface WorkerHealthRow {
  namespace: string;
  worker: string;
  healthy: boolean;
  report: Record<string, unknown>;
}

/** The newest reports of living workers, of all namespaces; the first `limit` by number. */
export async function livingHealth(sql: Sql, limit: number): Promise<WorkerHealthRow[]> {
  const rows = await sql.unsafe(
    `/* baton living health */ select n.name as namespace, w.name, h.healthy, h.report
     from baton.worker_health h join baton.workers w on w.id = h.worker_id join baton.sessions s on s.id = w.session_id
     join baton.namespaces n on n.id = w.namespace_id
     where h.session_id = s.id and s.state <> 'closed' and s.expires_at > clock_timestamp() order by w.id limit $1`,
    [limit],
    { prepare: true },
  );
  return rows.map((r) => ({
    namespace: r.namespace as string,
    worker: r.name as string,
    healthy: r.healthy as boolean,
    report: r.report as Record<string, unknown>,
  }));
}

/** Forgets minutes that are older; some of them. @returns how many */
export async function dropHealthMinutes(sql: Sql, olderThanMs: number): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop health minutes */ delete from baton.health_minutes where (worker_id, minute) in (
       select worker_id, minute from baton.health_minutes
       where minute < (select clock_timestamp() - $1::double precision * interval '1 ms') order by minute limit 5000 for update skip locked) returning 1`,
    [olderThanMs],
    { prepare: true },
  );
  return rows.length;
}
