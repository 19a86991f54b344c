import type { Sql } from '@baton/store';

/**
 * The clock of a kit's database. Baton's statements ask `clock_timestamp()`; in a kit's database this schema stands before `pg_catalog`
 * on the search path, so the same statements, unchanged, ask this clock: the machine's, and what was skipped. A sequence keeps how much
 * that is, because it changes for all sessions at once, outside of transactions; the function is inlined and costs half a microsecond.
 *
 * What is leased to a worker that lives moves along when time is skipped (its session, its leases, the master's number): only what waits
 * for a time sees the time pass.
 */
export const CLOCK_SCHEMA = `
create schema baton_clock;
create sequence baton_clock.skipped_ms minvalue 0 start 0;
select pg_catalog.setval('baton_clock.skipped_ms', 0);
create function baton_clock.clock_timestamp() returns timestamptz language sql volatile as $$
  select pg_catalog.clock_timestamp() + coalesce(pg_catalog.pg_sequence_last_value('baton_clock.skipped_ms'::regclass), 0) * interval '1 ms'
$$;
create function baton_clock.skip(ms bigint) returns bigint language plpgsql as $$
declare
  jump interval := ms * interval '1 ms';
  skipped bigint := pg_catalog.pg_sequence_last_value('baton_clock.skipped_ms'::regclass) + ms;
begin
  update baton.sessions set expires_at = expires_at + jump, renewed_at = renewed_at + jump where state <> 'closed';
  update baton.leases set granted_at = granted_at + jump, started_at = started_at + jump;
  update baton.progress set sign_at = sign_at + jump;
  update baton.masters set expires_at = expires_at + jump where expires_at > clock_timestamp();
  update baton.blob_uploads set expires_at = expires_at + jump;
  update baton.sweeps set last_at = last_at + jump, resumed_at = resumed_at + jump where name = 'sessions';
  perform pg_catalog.setval('baton_clock.skipped_ms', skipped);
  if ms > 3600000 then perform baton.ensure_partitions(); end if;
  return skipped;
end $$;
`;

/** On the search path of each kit's database, so that its connections find the clock before Postgres's own. */
export const CLOCK_SEARCH_PATH = 'baton_clock, pg_catalog, public';

/** How a kit's database stands: what can happen by itself, and what waits for a time. */
export interface Standing {
  /** Tasks that a worker holds, those of functions included. */
  readonly leases: number;
  /** Runs that are to be advanced. */
  readonly hasAdvances: boolean;
  /** Of those that are waited for, some have ended. */
  readonly hasEnded: boolean;
  /** Of each lane that has ready tasks, the first. */
  readonly readyTaskIds: readonly string[];
  /** Until the next time that something waits for, ms; null: nothing waits for a time. Negative: due. */
  readonly nextDueMs: number | null;
}

const STANDING = `/* baton kit standing */
select (select count(*)::integer from baton.leases) as leases,
  exists (select from baton.advances) as has_advances,
  exists (select from baton.outcomes where task_id = any($1::bigint[]))
    or exists (select from baton.runs where id = any($1::bigint[]) and state in ('succeeded', 'failed', 'cancelled')) as has_ended,
  array(select min(task_id)::text from baton.ready group by lane_id limit 20) as ready,
  (extract(epoch from least((select min(due_at) from baton.waiting where due_at is not null),
                            (select min(expires_at) from baton.start_deadlines)) - clock_timestamp()) * 1000)::double precision as next_due_ms`;

/** @param awaited ids of tasks and runs that somebody waits for */
export async function readStanding(sql: Sql, awaited: readonly string[]): Promise<Standing> {
  const [row] = await sql.unsafe(STANDING, [`{${awaited.join(',')}}`], { prepare: true });
  return {
    hasEnded: row!.has_ended as boolean,
    leases: row!.leases as number,
    hasAdvances: row!.has_advances as boolean,
    readyTaskIds: listed(row!.ready as string | string[]),
    nextDueMs: row!.next_due_ms as number | null,
  };
}

/** An array of ids; without the driver's registry it comes as its text, {1,2}. */
function listed(value: string | string[]): string[] {
  return typeof value === 'string' ? value.slice(1, -1).split(',').filter(Boolean) : value;
}

const DEADLOCK = '40P01';

/** Lets this much time pass at once; returns how much was skipped in all. */
export async function skipTime(sql: Sql, ms: number): Promise<number> {
  for (;;) {
    try {
      const [row] = await sql.unsafe('select baton_clock.skip($1)::double precision as skipped', [ms], {
        prepare: true,
      });
      return row!.skipped as number;
    } catch (error) {
      // A heartbeat, which takes the same rows in another order.
      if ((error as { code?: string }).code !== DEADLOCK) throw error;
    }
  }
}

/** Ends the session of this worker as if it had been silent for too long. Returns its id. */
export async function loseSession(sql: Sql, worker: string): Promise<string | null> {
  const [row] = await sql.unsafe(
    `update baton.sessions s set expires_at = clock_timestamp() - interval '1 ms'
     from baton.workers w where w.id = s.worker_id and w.name = $1 and s.state <> 'closed' returning s.id::text as id`,
    [worker],
  );
  return (row?.id as string | undefined) ?? null;
}

export async function countLeases(sql: Sql, sessionId: string): Promise<number> {
  const [row] = await sql.unsafe('select count(*)::integer as count from baton.leases where session_id = $1', [
    sessionId,
  ]);
  return row!.count as number;
}
