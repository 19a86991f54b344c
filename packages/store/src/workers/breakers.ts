import { type BreakerState, type FailureType, MACHINE_MADE, type ProbeResult } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';

/** Names a breaker. */
export interface BreakerKey {
  workerId: number;
  /** UUID of a device; empty: the worker itself. */
  device: string;
}

/** A machine-made failure: a lost session with all that it held, or one failed attempt. */
export interface Incident extends BreakerKey {
  taskIds: string[];
  /** Of the breaker as it stood; null: there is no row yet. */
  state: BreakerState | null;
  countedFrom: string | null;
}

/** Of attempts `a`. */
export const MACHINE_MADE_ATTEMPT = `a.state in ('failed', 'lost') and a.failure ->> 'type' in (${MACHINE_MADE.map((t) => `'${t}'`).join(', ')})`;

/** No more of a worker's failures are looked at, the newest first. */
const MOST_FAILURES = 20_000;

/**
 * Workers with a machine-made failure of late, for a sweep: whoever wrote the failure looks at once, but may have died before it did.
 */
export const FAILING_WORKERS = `/* baton failing workers */
select distinct a.worker_id from baton.attempts a
where a.ended_at > (select clock_timestamp() - $1::double precision * interval '1 ms') and ${MACHINE_MADE_ATTEMPT}`;

export async function failingWorkers(sql: Sql, withinMs: number): Promise<number[]> {
  const rows = await sql.unsafe(FAILING_WORKERS, [withinMs], { prepare: true });
  return rows.map((r) => r.worker_id as number);
}

export async function workersOfSessions(sql: Sql, sessionIds: readonly string[]): Promise<number[]> {
  const rows = await sql.unsafe(
    '/* baton workers of sessions */ select distinct s.worker_id from unnest($1::bigint[]) i(id) join baton.sessions s on s.id = i.id',
    [numbers(sessionIds)],
    { prepare: true },
  );
  return rows.map((r) => r.worker_id as number);
}

/**
 * Machine-made failures of these workers within the window, and after the breaker that they are about was closed last. One that names
 * a device is about the device; the loss of a session is one, however many leases it held.
 */
export const INCIDENTS = `/* baton incidents */
with failed as materialized (
  select a.* from unnest($1::integer[]) w(worker_id) cross join lateral (
    select a.worker_id, a.task_id, a.ended_at, coalesce(a.failure ->> 'device', '') as device,
           case a.state when 'lost' then a.session_id else -a.task_id end as incident
    from baton.attempts a
    where a.worker_id = w.worker_id and a.ended_at > (select clock_timestamp() - $2::double precision * interval '1 ms')
      and ${MACHINE_MADE_ATTEMPT}
    order by a.ended_at desc limit ${MOST_FAILURES}
  ) a
)
select f.worker_id, f.device, to_jsonb(array_agg(distinct f.task_id::text)) as tasks, min(b.state) as state, min(b.counted_from)::text as counted_from
from failed f left join baton.breakers b on b.worker_id = f.worker_id and b.device = f.device
where b.counted_from is null or f.ended_at > b.counted_from
group by f.worker_id, f.device, f.incident`;

export async function readIncidents(sql: Sql, workerIds: readonly number[], windowMs: number): Promise<Incident[]> {
  const rows = await sql.unsafe(INCIDENTS, [numbers(workerIds), windowMs], { prepare: true });
  return rows.map((r) => ({
    workerId: r.worker_id as number,
    device: r.device as string,
    taskIds: r.tasks as string[],
    state: r.state as BreakerState | null,
    countedFrom: r.counted_from as string | null,
  }));
}

/** A breaker that is not closed. */
export interface OpenBreaker extends BreakerKey {
  namespaceId: number;
  state: Exclude<BreakerState, 'closed'>;
  countedFrom: string;
  /** Time in this state, ms. */
  forMs: number;
  successes: number;
  probeTaskId: string | null;
  probeEpoch: number | null;
  /** How the probe ended; null: it has none, or it runs. */
  probe: ProbeResult | null;
  /** Of a device: a failure has named it since it became half-open. */
  failedSince: boolean;
}

/**
 * All that are not closed, with how their probes ended: there is a lease, or the attempt says it. A probe of which nothing is known any
 * more says nothing.
 */
export const OPEN_BREAKERS = `/* baton open breakers */
select b.worker_id, k.namespace_id, b.device, b.state, b.counted_from::text as counted_from, b.successes, b.probe_task_id, b.probe_epoch,
       (extract(epoch from clock_timestamp() - b.changed_at) * 1000)::double precision as for_ms,
       l.held is not null as runs, a.state as ended, a.failure ->> 'type' as failure_type, a.failure ->> 'device' as failure_device,
       n.named is not null as failed_since
from baton.breakers b
join baton.workers k on k.id = b.worker_id
left join lateral (
  select true as held from baton.leases l where l.task_id = b.probe_task_id and l.epoch = b.probe_epoch limit 1
) l on true
left join lateral (
  select a.state, a.failure from baton.attempts a where a.task_id = b.probe_task_id and a.epoch = b.probe_epoch limit 1
) a on true
left join lateral (
  select true as named from baton.attempts a
  where b.device <> '' and b.state = 'half_open' and a.worker_id = b.worker_id and a.ended_at > b.counted_from
    and ${MACHINE_MADE_ATTEMPT} and a.failure ->> 'device' = b.device limit 1
) n on true
where b.state <> 'closed'`;

export async function readOpenBreakers(sql: Sql): Promise<OpenBreaker[]> {
  const rows = await sql.unsafe(OPEN_BREAKERS, [], { prepare: true });
  return rows.map((r) => ({
    workerId: r.worker_id as number,
    namespaceId: r.namespace_id as number,
    device: r.device as string,
    state: r.state as OpenBreaker['state'],
    countedFrom: r.counted_from as string,
    forMs: r.for_ms as number,
    successes: r.successes as number,
    probeTaskId: r.probe_task_id as string | null,
    probeEpoch: r.probe_epoch as number | null,
    probe: r.probe_task_id === null || r.runs ? null : probeResult(r),
    failedSince: r.failed_since as boolean,
  }));
}

function probeResult(row: Record<string, unknown>): ProbeResult {
  if (row.ended === 'succeeded') return 'success';
  if (row.ended === 'lost') return 'machine_failure';
  if (row.ended !== 'failed' || !MACHINE_MADE.includes(row.failure_type as FailureType)) return 'neutral';
  // What another part of the machine did says nothing about this one.
  return ((row.failure_device as string | null) ?? '') === row.device ? 'machine_failure' : 'neutral';
}

/** How a breaker stood when it was looked at, and what is to become of it. */
export interface BreakerStep extends BreakerKey {
  from: BreakerState;
  countedFrom: string | null;
  /** The probe that was seen, of which epoch: the same task may be the next probe, too. */
  probeTaskId: string | null;
  probeEpoch: number | null;
  to: BreakerState;
  successes: number;
  reason: string;
}

/** @returns false: it does not stand like that any more; nothing was done */
export async function stepBreaker(sql: Sql, step: BreakerStep): Promise<boolean> {
  const [row] = await sql.unsafe(
    '/* baton step breaker */ select baton.step_breaker($1, $2, $3, $4::text::timestamptz, $5, $6, $7, $8, $9) as done',
    [
      step.workerId,
      step.device,
      step.from,
      step.countedFrom,
      step.probeTaskId,
      step.probeEpoch,
      step.to,
      step.successes,
      step.reason,
    ],
    { prepare: true },
  );
  return row!.done as boolean;
}

/**
 * Half-open devices take as their probe the oldest lease of a task for GPUs that their worker was granted since. Which device a task
 * uses is the worker's choice, and is known only where the task fails.
 */
export const ADOPT_PROBES = `/* baton adopt probes */
with found as materialized (
  select b.worker_id, b.device, l.task_id, l.epoch
  from baton.breakers b cross join lateral (
    select l.task_id, l.epoch from baton.sessions s join baton.leases l on l.session_id = s.id join baton.lanes n on n.id = l.lane_id
    where s.worker_id = b.worker_id and n.task_class in ('gpu', 'gpu_slurm') and l.granted_at > b.counted_from
    order by l.granted_at limit 1
  ) l
  where b.state = 'half_open' and b.device <> '' and b.probe_task_id is null
)
update baton.breakers b set probe_task_id = f.task_id, probe_epoch = f.epoch
from found f where b.worker_id = f.worker_id and b.device = f.device and b.state = 'half_open' and b.probe_task_id is null`;

export async function adoptProbes(sql: Sql): Promise<void> {
  await sql.unsafe(ADOPT_PROBES, [], { prepare: true });
}

/**
 * Marks the sessions of a worker as its breaker says. For a registration, after its session is there: what a step and a registration
 * of the same moment do not see of each other, this sees.
 */
export const HOLD_BACK = `/* baton hold back */
with b as materialized (
  select worker_id, state <> 'closed' as held from baton.breakers where worker_id = $1 and device = '' for share
), lives as materialized (
  select s.id, b.held from b join baton.sessions s on s.worker_id = b.worker_id
  where s.state <> 'closed' and s.held_back <> b.held order by s.id for no key update of s
)
update baton.sessions s set held_back = l.held from lives l where s.id = l.id`;

export async function holdBackAsBreakerSays(sql: Sql, workerId: number): Promise<void> {
  await sql.unsafe(HOLD_BACK, [workerId], { prepare: true });
}

/** A breaker as people see it. */
export interface BreakerRow extends BreakerKey {
  worker: string;
  state: BreakerState;
  reason: string;
  changedAt: Date;
  countedFrom: string;
  successes: number;
  probeTaskId: string | null;
  probeEpoch: number | null;
}

/** Breakers of a namespace that have opened at least once, by worker and device. */
export async function listBreakers(sql: Sql, namespaceId: number, worker: string | null): Promise<BreakerRow[]> {
  const rows = await sql.unsafe(
    `/* baton list breakers */
     select w.name, b.* , b.counted_from::text as counted from baton.breakers b join baton.workers w on w.id = b.worker_id
     where w.namespace_id = $1 and ($2::text is null or w.name = $2) order by w.name, b.device`,
    [namespaceId, worker],
    { prepare: true },
  );
  return rows.map((r) => ({
    workerId: r.worker_id as number,
    worker: r.name as string,
    device: r.device as string,
    state: r.state as BreakerState,
    reason: r.reason as string,
    changedAt: r.changed_at as Date,
    countedFrom: r.counted as string,
    successes: r.successes as number,
    probeTaskId: r.probe_task_id as string | null,
    probeEpoch: r.probe_epoch as number | null,
  }));
}

/** A worker by its name, living or not; null: nobody registered under it. */
export async function findWorker(sql: Sql, namespaceId: number, name: string): Promise<number | null> {
  const [row] = await sql.unsafe(
    '/* baton find worker by name */ select id from baton.workers where namespace_id = $1 and name = $2',
    [namespaceId, name],
    { prepare: true },
  );
  return row ? (row.id as number) : null;
}

/** Which of these workers are of this namespace, with their names. */
export async function namesInNamespace(
  sql: Sql,
  namespaceId: number,
  workerIds: readonly number[],
): Promise<Map<number, string>> {
  const rows = await sql.unsafe(
    '/* baton worker names */ select w.id, w.name from unnest($2::integer[]) i(id) join baton.workers w on w.id = i.id where w.namespace_id = $1',
    [namespaceId, numbers(workerIds)],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.id as number, r.name as string]));
}
