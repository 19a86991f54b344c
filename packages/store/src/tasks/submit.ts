import type { Needs, TaskClass } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { base64s, byteas, jsons, noneOr, numbers, once, texts } from '../database/literals.ts';
import { HANDED_EVENTS, type Handed, handOver, NOBODY, type Takers, takersOf } from './hand-over.ts';
import { INLINE_INPUT_BYTES, type NewTask } from './new-task.ts';
import { isLone, loneParameters, SUBMIT_ONE, SUBMIT_ONE_HANDING } from './submit-lone.ts';

/** What is the same for the whole of most batches: then it is sent once (see `once`), which takes 1 µs less a task. */
const SAME = [
  ['namespace_id', 'integer', 2],
  ['route_id', 'integer', 3],
  ['lane_id', 'integer', 4],
  ['priority', 'smallint', 5],
  ['max_attempts', 'smallint', 6],
  ['start_to_close_ms', 'bigint', 7],
  ['encoding', 'smallint', 8],
] as const;

/**
 * Stores a batch: its idempotency keys first, then tasks, then ready or waiting, then one event row, in one statement.
 *
 * A repeated batch (the connection was lost after the commit) writes nothing: only rows that this statement itself stored go to
 * ready. A task whose key is taken is not stored; the caller looks up what the key stands for. All keys are
 * inserted, then tasks with keys, then the rest, each in order, so that two batches never wait for each other.
 *
 * @param again it looks at each task whether it is there already, which costs 2.7 µs a task: only once that is known of one
 */
const submitStatement = (handing: boolean, again: boolean) => `/* baton ${handing ? 'submit handing' : 'submit'} */
with input as materialized (
  select id, ${SAME.map(([name, type, n]) => `coalesce(${name}, ($${n}::${type}[])[1]) as ${name}`).join(', ')},
         decode(input, 'base64') as input, due_ms, extra, scope, key, body_hash, key_ttl_ms${handing ? ', session_id' : ''}
  from unnest($1::bigint[], $2::integer[], $3::integer[], $4::integer[], $5::smallint[], $6::smallint[], $7::bigint[],
                       $8::smallint[], $9::text[], $10::double precision[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::bigint[]${handing ? ', $16::bigint[]' : ''})
    as i(id, namespace_id, route_id, lane_id, priority, max_attempts, start_to_close_ms, encoding, input, due_ms, extra, scope, key, body_hash, key_ttl_ms${handing ? ', session_id' : ''})
  order by key is null, id
), keyed as (
  insert into baton.idempotency (namespace_id, scope, key, body_hash, id, expires_at)
  select namespace_id, scope, key, body_hash, id, clock_timestamp() + key_ttl_ms * interval '1 ms' from input where key is not null
  order by namespace_id, scope, key
  on conflict do nothing returning id
), stored as (
  insert into baton.tasks (id, due_at, run_id, retry_of, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts,
                           input_encoding, input, executor_config, retry, node_id, labels, idempotency_key, principal,
                           schedule_to_start_ms, progress_timeout_ms, input_blob)
  select i.id, to_timestamp(i.due_ms / 1000), (x ->> 'runId')::bigint, (x ->> 'retryOf')::bigint, i.start_to_close_ms, i.namespace_id,
         i.route_id, i.lane_id, i.priority, i.max_attempts, i.encoding, i.input, x -> 'executor', x -> 'retry', x ->> 'nodeId', x -> 'labels',
         i.key, x ->> 'principal', (x ->> 'scheduleToStartMs')::bigint, (x ->> 'progressTimeoutMs')::bigint, decode(x ->> 'inputBlob', 'hex')
  from (select *, extra::jsonb as x from input) i
  where i.key is null or i.id in (select id from keyed)${again ? '\n  on conflict (id) do nothing' : ''}
  returning id, due_at, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input, executor_config,
            schedule_to_start_ms, progress_timeout_ms
), ${handing ? `${handOver('stored', 'id')}, ` : ''}to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
  select id, id, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding,
         case when executor_config is null and progress_timeout_ms is null and octet_length(input) <= ${INLINE_INPUT_BYTES} then input end
  from stored where due_at is null${handing ? ' and id <> all(array(select id from handed))' : ''}
), to_waiting as (
  insert into baton.waiting (task_id, due_at, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, reason)
  select id, due_at, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, 'scheduled'
  from stored where due_at is not null
), to_deadline as (
  insert into baton.start_deadlines (task_id, timeout_ms, expires_at)
  select id, schedule_to_start_ms, coalesce(due_at, clock_timestamp()) + schedule_to_start_ms * interval '1 ms'
  from stored where schedule_to_start_ms is not null
), logged as (
  insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
  select ${
    handing
      ? `array_agg(namespace_id), array_agg(type), array_agg(task_id), array_agg(run_id), array_agg(attempt), array_agg(worker_id)
  from (select namespace_id, 1::smallint as type, id as task_id, coalesce(run_id, 0) as run_id, 0::smallint as attempt, 0 as worker_id from stored
        union all ${HANDED_EVENTS}) e having count(*) > 0`
      : `array_agg(namespace_id), array_agg(1::smallint), array_agg(id), array_agg(coalesce(run_id, 0)), array_agg(0::smallint), array_agg(0)
  from stored having count(*) > 0`
  }
)
${handing ? 'select id, null::bigint as session_id from stored union all select id, session_id from handed' : 'select id from stored'}`;

export const SUBMIT = submitStatement(false, false);
/** The same, where sessions wait for some of these tasks: see `handOver`. */
export const SUBMIT_HANDING = submitStatement(true, false);
const SUBMIT_AGAIN = submitStatement(false, true);
const SUBMIT_HANDING_AGAIN = submitStatement(true, true);

/** A task of the batch is there already, so nothing was stored. */
const UNIQUE_VIOLATION = '23505';

/** @returns who was given which; of a task that was there already, nothing */
async function send(sql: Sql, batch: readonly NewTask[], takers: Takers | null): Promise<Row[]> {
  try {
    if (isLone(batch)) {
      const id = batch[0]!.id;
      const taker = takers?.[0] ?? null;
      const text = taker === null ? SUBMIT_ONE : SUBMIT_ONE_HANDING;
      const rows = await sql.unsafe(text, loneParameters(batch[0]!, taker), { prepare: true });
      return rows.map((row) => ({ id, session_id: row.session_id }));
    }
    const text = takers === null ? SUBMIT : SUBMIT_HANDING;
    return await sql.unsafe(text, submitParameters(batch, takers), { prepare: true });
  } catch (error) {
    if ((error as { code?: string }).code !== UNIQUE_VIOLATION) throw error;
    const text = takers === null ? SUBMIT_AGAIN : SUBMIT_HANDING_AGAIN;
    return await sql.unsafe(text, submitParameters(batch, takers), { prepare: true });
  }
}

/** A task that was stored, or (once more) one that was handed over. */
interface Row {
  id: string;
  session_id?: string | null;
}

const submitParameters = (batch: readonly NewTask[], takers: Takers | null) => [
  numbers(batch.map((t) => t.id)),
  numbers(once(batch.map((t) => t.namespaceId))),
  numbers(once(batch.map((t) => t.routeId))),
  numbers(once(batch.map((t) => t.laneId))),
  numbers(once(batch.map((t) => t.priority))),
  numbers(once(batch.map((t) => t.maxAttempts))),
  numbers(once(batch.map((t) => t.startToCloseMs))),
  numbers(once(batch.map((t) => t.encoding))),
  base64s(batch.map((t) => t.input)),
  numbers(noneOr(batch.map((t) => t.dueAtMs))),
  jsons(noneOr(batch.map((t) => t.extra))),
  texts(noneOr(batch.map((t) => t.idempotency?.scope ?? null))),
  texts(noneOr(batch.map((t) => t.idempotency?.key ?? null))),
  byteas(noneOr(batch.map((t) => t.idempotency?.bodyHash ?? null))),
  numbers(noneOr(batch.map((t) => t.idempotency?.ttlMs ?? null))),
  ...(takers === null ? [] : [takersOf(takers)]),
];

/** @returns the ids that were stored now */
export async function submitTasks(sql: Sql, batch: readonly NewTask[]): Promise<Set<string>> {
  const rows = await send(sql, batch, null);
  return new Set(rows.map((r) => r.id));
}

/**
 * @param takers of tasks that may start at once; where all are null the plain statement is sent
 * @returns the ids that were stored now, and who was given which
 */
export async function submitHanding(
  sql: Sql,
  batch: readonly NewTask[],
  takers: Takers,
): Promise<{ stored: Set<string>; handed: Handed }> {
  if (takers.every((taker) => taker === null)) return { stored: await submitTasks(sql, batch), handed: NOBODY };
  const rows = await send(sql, batch, takers);
  const handed = rows.filter((r) => r.session_id != null).map((r) => [r.id, r.session_id!] as const);
  return { stored: new Set(rows.map((r) => r.id)), handed: new Map(handed) };
}

export interface KeyHolder {
  id: string;
  bodyHash: Uint8Array;
}

/** What idempotency keys stand for, in the order asked; null where a key is free. */
export async function lookUpKeys(
  sql: Sql,
  keys: readonly { namespaceId: number; scope: string; key: string }[],
): Promise<(KeyHolder | null)[]> {
  const rows = await sql.unsafe(
    `select k.n, i.id, i.body_hash
     from unnest($1::integer[], $2::text[], $3::text[]) with ordinality k(namespace_id, scope, key, n)
     join baton.idempotency i using (namespace_id, scope, key)`,
    [numbers(keys.map((k) => k.namespaceId)), texts(keys.map((k) => k.scope)), texts(keys.map((k) => k.key))],
    { prepare: true },
  );
  const found = new Map(rows.map((r) => [Number(r.n), { id: r.id as string, bodyHash: r.body_hash as Uint8Array }]));
  return keys.map((_, i) => found.get(i + 1) ?? null);
}

/** Frees those of these keys whose time is over: somebody wants them. Returns how many. */
export async function freeExpiredKeys(
  sql: Sql,
  keys: readonly { namespaceId: number; scope: string; key: string }[],
): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton free expired keys */ delete from baton.idempotency where ctid = any(array(
       select i.ctid from unnest($1::integer[], $2::text[], $3::text[]) k(namespace_id, scope, key)
       join baton.idempotency i using (namespace_id, scope, key) where i.expires_at < clock_timestamp()
       order by i.namespace_id, i.scope, i.key for update of i)) returning 1`,
    [numbers(keys.map((k) => k.namespaceId)), texts(keys.map((k) => k.scope)), texts(keys.map((k) => k.key))],
    { prepare: true },
  );
  return rows.length;
}

/** Frees keys whose time is over, some of them. Returns how many. */
export async function dropExpiredKeys(sql: Sql, limit = 5_000): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop expired keys */ delete from baton.idempotency where ctid = any(array(
       select ctid from baton.idempotency where expires_at < (select clock_timestamp()) order by expires_at limit $1 for update skip locked)) returning 1`,
    [limit],
    { prepare: true },
  );
  return rows.length;
}

export interface LaneKey {
  namespaceId: number;
  queue: string;
  kind: string;
  executor: string;
  taskClass: TaskClass;
  /** Lower case, sorted. */
  tags: readonly string[];
  /** Absent or null: none. */
  needs?: Needs | null;
  /** With needs: a hash (hex) of their one form. */
  needsHash?: string | undefined;
}
