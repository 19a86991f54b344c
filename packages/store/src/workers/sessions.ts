import type { Sql } from '../database/connection.ts';
import { jsons, numbers } from '../database/literals.ts';
import { OUTAGE_MS } from '../tasks/sweep.ts';
import { holdBackAsBreakerSays } from './breakers.ts';

export interface Registration {
  sessionId: string;
  namespaceId: number;
  name: string;
  instanceId: string;
  capabilities: object;
  serviceUrl: string;
  version: string;
  metadata: Record<string, string>;
  leaseTtlMs: number;
}

/**
 * Opens a session. An earlier session of the same worker gets no new work from then on (draining); its leases end when it
 * leaves or expires, so the second life never overlaps the first one's work. The same instance gets the same session again, as long
 * as it is the worker's newest and not closed; otherwise nothing is changed.
 *
 * @returns the session's id: the one given, or the earlier one of this instance; empty: the instance is over
 */
export async function registerWorker(sql: Sql, r: Registration): Promise<{ sessionId: string; workerId: number }> {
  const about = [JSON.stringify(r.capabilities), r.serviceUrl, r.version, JSON.stringify(r.metadata)];
  const workerId = await internWorker(sql, r, about);
  // Its row is locked first, as a step of its breaker does. Then the session: its unique (worker, instance) is what a repeated call runs into, even one that came in the same moment.
  const [opened] = await sql.unsafe(
    `/* baton register */
     with mine as materialized (
       select w.id from baton.workers w where w.id = $3 for no key update
     ), opened as (
       insert into baton.sessions (id, expires_at, renewed_at, registered_at, namespace_id, worker_id, state, instance_id, held_back)
       select $1, clock_timestamp() + $9::double precision * interval '1 ms', clock_timestamp(), clock_timestamp(), $2, mine.id, 'active', $4,
              exists (select from baton.breakers b where b.worker_id = mine.id and b.device = '' and b.state <> 'closed')
       from mine
       on conflict (worker_id, instance_id) do nothing
       returning id
     ), worker as (
       update baton.workers w set session_id = opened.id, capabilities = $5::text::jsonb, service_url = $6, version = $7,
         metadata = $8::text::jsonb, registered_at = clock_timestamp()
       from opened where w.id = $3
     ), replaced as (
       update baton.sessions s set state = 'draining', shutdown = true, reason = 'another life of this worker registered'
       from opened where s.worker_id = $3 and s.id <> opened.id and s.state = 'active'
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array[$2::integer], array[12]::smallint[], array[0::bigint], array[0::bigint], array[0::smallint], array[$3::integer] from opened
     )
     select id from opened`,
    [r.sessionId, r.namespaceId, workerId, r.instanceId, ...about, r.leaseTtlMs],
    { prepare: true },
  );
  // And once more, in a statement of its own: two lives that register in the same moment do not see each other, whoever comes here
  // last sees both.
  await sql.unsafe(
    `/* baton replace sessions */
     with old as materialized (
       select s.id from baton.workers w join baton.sessions s on s.worker_id = w.id and s.id <> w.session_id and s.state = 'active'
       where w.id = $1 order by s.id for no key update of s
     )
     update baton.sessions s set state = 'draining', shutdown = true, reason = 'another life of this worker registered'
     from old where s.id = old.id`,
    [workerId],
    { prepare: true },
  );
  await holdBackAsBreakerSays(sql, workerId);
  if (opened) return { sessionId: opened.id as string, workerId };
  const [known] = await sql.unsafe(
    `/* baton register again */
     with w as materialized (
       select id, session_id from baton.workers where id = $1 for no key update
     ), renewed as (
       update baton.sessions s set expires_at = greatest(s.expires_at, clock_timestamp() + $7::double precision * interval '1 ms'),
         renewed_at = clock_timestamp()
       from w
       where s.worker_id = w.id and s.instance_id = $2 and s.id = w.session_id and s.state <> 'closed'
         and s.expires_at > clock_timestamp()
       returning s.id
     ), worker as (
       update baton.workers w set capabilities = $3::text::jsonb, service_url = $4, version = $5, metadata = $6::text::jsonb
       from renewed where w.id = $1
     )
     select id from renewed`,
    [workerId, r.instanceId, ...about, r.leaseTtlMs],
    { prepare: true },
  );
  // The worker counts its lease time from this call, so the session does, too. None: the instance is over, or another life has taken
  // its place; then a late or repeated call changes nothing.
  return { sessionId: (known?.id as string | undefined) ?? '', workerId };
}

/** The number of a worker's name. Two statements, because one does not see what another made at the same moment. */
async function internWorker(sql: Sql, r: Registration, about: readonly string[]): Promise<number> {
  const find = async () =>
    (
      await sql.unsafe(
        '/* baton find worker */ select id from baton.workers where namespace_id = $1 and name = $2',
        [r.namespaceId, r.name],
        {
          prepare: true,
        },
      )
    )[0]?.id as number | undefined;
  const found = await find();
  if (found !== undefined) return found;
  await sql.unsafe(
    `/* baton new worker */
     insert into baton.workers (namespace_id, name, session_id, capabilities, service_url, version, metadata, registered_at)
     values ($1, $2, 0, $3::text::jsonb, $4, $5, $6::text::jsonb, clock_timestamp()) on conflict (namespace_id, name) do nothing`,
    [r.namespaceId, r.name, ...about],
    { prepare: true },
  );
  return (await find())!;
}

export interface Renewal {
  sessionId: string;
  /** From when it was heard. */
  leaseTtlMs: number;
  /** Since it was heard. Default 0. */
  ageMs?: number;
  metrics: object | null;
  /** Rises with each heartbeat of the session; decimal. */
  number: string;
}

/** What a heartbeat learns of its session. */
export interface Renewed {
  sessionId: string;
  state: 'active' | 'draining';
  shutdown: boolean;
  /** Leases the session holds. */
  count: number;
  /** Exclusive or over (task_id xor epoch << 40), as a signed 64-bit decimal. */
  xor: string;
  cancels: { taskId: string; epoch: number; reason: string }[];
  /** Number of the session's newest heartbeat so far. */
  beat: string;
  /** Leases that it is asked to hand back unstarted; told once. */
  recall: number;
  /** When it was renewed, by Postgres, to the microsecond. */
  renewedAt: string;
}

/**
 * Renews sessions, one row each however many tasks they hold, and reads what they hold. A recall is told, and forgotten, in the same
 * statement: the row is locked first, so that what is told is what is forgotten. A session never loses time: what was told to a worker
 * while its row had it stays true.
 *
 * A renewal is refused when the session's time is over, unless the sweep itself has not run for as long as makes an outage: then the
 * sweep is going to extend every session by it.
 */
export const RENEW = `/* baton renew */
with input as materialized (
  select * from unnest($1::bigint[], $2::double precision[], $3::text[], $4::bigint[], $6::double precision[]) i(session_id, ttl_ms, metrics, number, age_ms)
), locked as materialized (
  select s.id, s.recall, i.ttl_ms, i.metrics, i.number, i.age_ms * interval '1 ms' as age from input i join baton.sessions s on s.id = i.session_id
  where s.state <> 'closed'
    and (s.expires_at > clock_timestamp()
         or (select last_at from baton.sweeps where name = 'sessions') < clock_timestamp() - $5::double precision * interval '1 ms')
  order by s.id for update of s
), renewed as (
  update baton.sessions s
  set expires_at = greatest(s.expires_at, clock_timestamp() - i.age + i.ttl_ms * interval '1 ms'),
      renewed_at = greatest(s.renewed_at, clock_timestamp() - i.age), metrics = coalesce(i.metrics::jsonb, s.metrics), beat = greatest(s.beat, i.number), recall = 0
  from locked i
  where s.id = i.id
  returning s.id, s.state, s.shutdown, s.beat, s.renewed_at, i.recall
)
select r.id, r.state, r.shutdown, r.beat, r.recall, r.renewed_at::text as renewed_at, h.count, h.xor, h.cancels
from renewed r cross join lateral (
  select count(*)::integer as count, coalesce(bit_xor(l.task_id # (l.epoch::bigint << 40)), 0) as xor,
         coalesce(jsonb_agg(jsonb_build_object('taskId', l.task_id::text, 'epoch', l.epoch, 'reason', l.cancel_reason))
                  filter (where l.cancel_reason is not null), '[]') as cancels
  from baton.leases l where l.session_id = r.id
) h`;

/** @param outageMs as in sweepSessions */
export async function renewSessions(
  sql: Sql,
  batch: readonly Renewal[],
  outageMs: number = OUTAGE_MS,
): Promise<Map<string, Renewed>> {
  const rows = await sql.unsafe(
    RENEW,
    [
      numbers(batch.map((r) => r.sessionId)),
      numbers(batch.map((r) => r.leaseTtlMs)),
      jsons(batch.map((r) => r.metrics)),
      numbers(batch.map((r) => r.number)),
      outageMs,
      numbers(batch.map((r) => r.ageMs ?? 0)),
    ],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => [
      r.id as string,
      {
        sessionId: r.id as string,
        state: r.state as Renewed['state'],
        shutdown: r.shutdown as boolean,
        count: r.count as number,
        xor: r.xor as string,
        cancels: r.cancels as Renewed['cancels'],
        beat: r.beat as string,
        recall: r.recall as number,
        renewedAt: r.renewed_at as string,
      },
    ]),
  );
}

export interface HeldByWorker {
  taskId: string;
  epoch: number;
  started: boolean;
  ranMs: number;
}

/** Writes when the work on leases began, once each, as the worker reports it. */
export async function markStarted(sql: Sql, sessionId: string, held: readonly HeldByWorker[]): Promise<void> {
  const started = held.filter((h) => h.started);
  if (started.length === 0) return;
  await sql.unsafe(
    `/* baton mark started */
     with input as materialized (
       select * from unnest($2::bigint[], $3::integer[], $4::double precision[]) i(task_id, epoch, ran_ms) order by task_id
     ), held as materialized (
       select l.task_id, i.ran_ms from input i cross join lateral (
         select l.task_id from baton.leases l
         where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = $1 and l.started_at is null limit 1 for update
       ) l
     )
     update baton.leases l
     set started_at = greatest(l.granted_at, clock_timestamp() - (select h.ran_ms from held h where h.task_id = l.task_id limit 1) * interval '1 ms')
     where l.task_id = any(array(select task_id from held))`,
    [
      sessionId,
      numbers(started.map((h) => h.taskId)),
      numbers(started.map((h) => h.epoch)),
      numbers(started.map((h) => h.ranMs)),
    ],
    { prepare: true },
  );
}

export interface Reconciliation {
  /** Leases granted a while ago that the worker never heard of: to be handed back. */
  unheard: { taskId: string; epoch: number }[];
  /** What the worker holds and should not. */
  lost: { taskId: string; epoch: number }[];
}

/**
 * Compares all that a worker holds with its leases. Reads only; `unheard` is settled by the caller, fenced.
 *
 * The list speaks of the time when its heartbeat was renewed, and only as long as no newer heartbeat was: a master that was stopped
 * in between, and goes on, must not take back what the worker was granted meanwhile and has begun.
 *
 * @param renewedAt of the heartbeat that brought the list
 */
export async function compareHeld(
  sql: Sql,
  sessionId: string,
  held: readonly HeldByWorker[],
  renewedAt: string,
  unheardAfterMs: number,
): Promise<Reconciliation> {
  const rows = await sql.unsafe(
    `/* baton compare held */
     with held as materialized (select * from unnest($2::bigint[], $3::integer[]) h(task_id, epoch))
     select 'unheard' as what, l.task_id, l.epoch from baton.leases l
     where l.session_id = $1 and l.granted_at < $5::text::timestamptz - $4::double precision * interval '1 ms'
       and not exists (select from held h where h.task_id = l.task_id and h.epoch = l.epoch)
     union all
     select 'lost', h.task_id, h.epoch from held h left join lateral (
       select true as held from baton.leases l where l.task_id = h.task_id and l.epoch = h.epoch and l.session_id + 0 = $1 limit 1
     ) l on true where l.held is null`,
    [sessionId, numbers(held.map((h) => h.taskId)), numbers(held.map((h) => h.epoch)), unheardAfterMs, renewedAt],
    { prepare: true },
  );
  const pick = (what: string) =>
    rows.filter((r) => r.what === what).map((r) => ({ taskId: r.task_id as string, epoch: r.epoch as number }));
  return { unheard: pick('unheard'), lost: pick('lost') };
}

/** Closes a session at its own wish. Returns false if it was over already. */
export async function closeSession(sql: Sql, sessionId: string, reason: string): Promise<boolean> {
  const rows = await sql.unsafe(
    `/* baton leave */ with closed as (
       update baton.sessions set state = 'closed', reason = $2 where id = $1 and state <> 'closed' returning id, namespace_id, worker_id
     ), logged as (
       insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
       select array[namespace_id], array[14]::smallint[], array[0::bigint], array[0::bigint], array[0::smallint], array[worker_id] from closed
     ) select id from closed`,
    [sessionId, reason],
    { prepare: true },
  );
  return rows.length > 0;
}

/** Lets a worker take no new work. Returns its session and the leases it holds; null if no such worker is there. */
export async function drainWorker(
  sql: Sql,
  namespaceId: number,
  name: string,
  reason: string,
): Promise<{ sessionId: string; leases: number } | null> {
  const [row] = await sql.unsafe(
    `with drained as (
       update baton.sessions s set state = 'draining', reason = $3 from baton.workers w
       where w.namespace_id = $1 and w.name = $2 and s.id = w.session_id and s.state <> 'closed' returning s.id
     ) select id, (select count(*)::integer from baton.leases l where l.session_id = drained.id) as leases from drained`,
    [namespaceId, name, reason],
  );
  return row ? { sessionId: row.id as string, leases: row.leases as number } : null;
}

/** A session takes no more work, by its own worker's wish. Another life of the worker is not touched. */
export async function drainSession(sql: Sql, sessionId: string, reason: string): Promise<void> {
  await sql.unsafe(
    `/* baton drain session */ update baton.sessions set state = 'draining', reason = $2 where id = $1 and state = 'active'`,
    [sessionId, reason],
    { prepare: true },
  );
}

export interface SessionInfo {
  namespaceId: number;
  workerId: number;
  workerName: string;
  state: 'active' | 'draining' | 'closed';
  capabilities: Record<string, unknown>;
}

/** A session that another master opened. */
export async function readSession(sql: Sql, sessionId: string): Promise<SessionInfo | null> {
  const [row] = await sql.unsafe(
    `select s.namespace_id, s.worker_id, w.name, s.state, w.capabilities from baton.sessions s join baton.workers w on w.id = s.worker_id where s.id = $1`,
    [sessionId],
    { prepare: true },
  );
  return row
    ? {
        namespaceId: row.namespace_id as number,
        workerId: row.worker_id as number,
        workerName: row.name as string,
        state: row.state as SessionInfo['state'],
        capabilities: row.capabilities as Record<string, unknown>,
      }
    : null;
}

export interface WorkerRow {
  id: number;
  name: string;
  sessionId: string;
  state: 'active' | 'draining' | 'closed' | 'lost';
  capabilities: Record<string, unknown>;
  metrics: Record<string, number> | null;
  serviceUrl: string;
  version: string;
  registeredAt: Date;
  /** Since the last renewal, ms. */
  lastHeardMs: number;
  leases: number;
  /** MachineHealth of the contract, as its JSON, with the time since it was judged, ms; null: this session has told none. */
  health: { report: Record<string, unknown>; ageMs: number } | null;
}

/** Workers by name, a keyset page, or the one of `name`. */
export async function listWorkers(
  sql: Sql,
  page: { namespaceId: number; afterName: string; limit: number; includeGone: boolean; name?: string },
): Promise<WorkerRow[]> {
  const rows = await sql.unsafe(
    `select w.id, w.name, w.session_id, w.capabilities, w.service_url, w.version, w.registered_at, s.metrics,
            case when s.id is null or s.state = 'closed' then 'closed' when s.expires_at < clock_timestamp() then 'lost' else s.state end as state,
            coalesce(extract(epoch from clock_timestamp() - s.renewed_at) * 1000, 0)::double precision as last_heard_ms,
            (select count(*)::integer from baton.leases l where l.session_id = w.session_id) as leases,
            h.report, (extract(epoch from clock_timestamp() - h.at) * 1000)::double precision as health_age_ms
     from baton.workers w left join baton.sessions s on s.id = w.session_id
     left join baton.worker_health h on h.worker_id = w.id and h.session_id = w.session_id
     where w.namespace_id = $1 and w.name > $2 and ($5::text is null or w.name = $5) and ($4::boolean or (s.state <> 'closed' and s.expires_at > clock_timestamp()))
     order by w.name limit $3`,
    [page.namespaceId, page.afterName, page.limit, page.includeGone, page.name ?? null],
  );
  return rows.map((r) => ({
    id: r.id as number,
    health: r.report && { report: r.report as Record<string, unknown>, ageMs: r.health_age_ms as number },
    name: r.name as string,
    sessionId: r.session_id as string,
    state: r.state as WorkerRow['state'],
    capabilities: r.capabilities as Record<string, unknown>,
    metrics: r.metrics as Record<string, number> | null,
    serviceUrl: r.service_url as string,
    version: r.version as string,
    registeredAt: r.registered_at as Date,
    lastHeardMs: r.last_heard_ms as number,
    leases: r.leases as number,
  }));
}
