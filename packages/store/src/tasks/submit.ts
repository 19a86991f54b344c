import type { Needs, TaskClass } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { byteas, jsons, noneOr, numbers, once, packed, texts, unpacked } from '../database/literals.ts';
import { HANDED_EVENTS, type Handed, handOver, NOBODY, type Takers, takersOf } from './hand-over.ts';
import { INLINE_INPUT_BYTES, type NewTask } from './new-task.ts';
import { isBare, loneParameters, SUBMIT_ONE, SUBMIT_ONE_HANDING } from './submit-lone.ts';

type Column = readonly [name: string, type: string];

/** Of every task, in the order of the parameters. */
const COLUMNS: readonly Column[] = [
  ['id', 'bigint'],
  ['namespace_id', 'integer'],
  ['route_id', 'integer'],
  ['lane_id', 'integer'],
  ['priority', 'smallint'],
  ['max_attempts', 'smallint'],
  ['start_to_close_ms', 'bigint'],
  ['encoding', 'smallint'],
  ['input_end', 'integer'],
  ['input_bytes', 'integer'],
];

/** What most tasks do not have, and a bare batch none of. */
const SELDOM: readonly Column[] = [
  ['due_ms', 'double precision'],
  ['extra', 'text'],
  ['scope', 'text'],
  ['key', 'text'],
  ['body_hash', 'bytea'],
  ['key_ttl_ms', 'bigint'],
];

const columnsOf = (handing: boolean, bare: boolean): readonly Column[] => [
  ...COLUMNS,
  ...(bare ? [] : SELDOM),
  ...(handing ? [['session_id', 'bigint'] as const] : []),
];

/** The inputs, packed: all parameters but the first are arrays. */
const INPUT = unpacked('$1', 'i.input_end', 'i.input_bytes');

const arrays = (columns: readonly Column[]) =>
  `unnest(${columns.map(([, type], n) => `$${n + 2}::${type}[]`).join(', ')}) as i(${columns.map(([name]) => name).join(', ')})`;

/** What is the same for the whole of most batches: then it is sent once (see `once`), which takes 1 µs less a task. */
const SAME = [
  'namespace_id',
  'route_id',
  'lane_id',
  'priority',
  'max_attempts',
  'start_to_close_ms',
  'encoding',
  'input_bytes',
];

const selected = ([name, type]: Column, n: number) =>
  SAME.includes(name) ? `coalesce(${name}, ($${n + 2}::${type}[])[1]) as ${name}` : name;

const STORED = `keyed as (
  insert into baton.idempotency (namespace_id, scope, key, body_hash, id, expires_at)
  select namespace_id, scope, key, body_hash, id, clock_timestamp() + key_ttl_ms * interval '1 ms' from input where key is not null
  order by namespace_id, scope, key
  on conflict do nothing returning id
), stored as (
  insert into baton.tasks (id, due_at, run_id, retry_of, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts,
                           input_encoding, input, executor_config, retry, node_id, labels, idempotency_key, principal,
                           schedule_to_start_ms, progress_timeout_ms, input_blob)
  select i.id, to_timestamp(i.due_ms / 1000), (x ->> 'runId')::bigint, (x ->> 'retryOf')::bigint, i.start_to_close_ms, i.namespace_id,
         i.route_id, i.lane_id, i.priority, i.max_attempts, i.encoding, ${INPUT}, x -> 'executor', x -> 'retry', x ->> 'nodeId', x -> 'labels',
         i.key, x ->> 'principal', (x ->> 'scheduleToStartMs')::bigint, (x ->> 'progressTimeoutMs')::bigint, decode(x ->> 'inputBlob', 'hex')
  from (select *, extra::jsonb as x from input) i
  where i.key is null or i.id in (select id from keyed)`;

const STORED_BARE = `stored as (
  insert into baton.tasks (id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input)
  select id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, encoding, ${INPUT} from input i`;

const LATER = `to_waiting as (
  insert into baton.waiting (task_id, due_at, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, reason)
  select id, due_at, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, 'scheduled'
  from stored where due_at is not null
), to_deadline as (
  insert into baton.start_deadlines (task_id, timeout_ms, expires_at)
  select id, schedule_to_start_ms, coalesce(due_at, clock_timestamp()) + schedule_to_start_ms * interval '1 ms'
  from stored where schedule_to_start_ms is not null
), `;

/**
 * Stores a batch: its idempotency keys first, then tasks, then ready or waiting, then one event row, in one statement.
 *
 * A repeated batch (the connection was lost after the commit) writes nothing: only rows that this statement itself stored go to
 * ready. A task whose key is taken is not stored; the caller looks up what the key stands for. All keys are
 * inserted, then tasks with keys, then the rest, each in order, so that two batches never wait for each other.
 *
 * @param again it looks at each task whether it is there already, which costs 2.7 µs a task: only once that is known of one
 * @param bare no task has a key, a time to wait for, a deadline, or anything of `extra`: 1 µs less of 12.5 a task, in batches of 500
 */
const submitStatement = (
  handing: boolean,
  again: boolean,
  bare: boolean,
) => `/* baton submit${bare ? ' bare' : ''}${handing ? ' handing' : ''} */
with input as materialized (
  select ${columnsOf(handing, bare).map(selected).join(', ')}
  from ${arrays(columnsOf(handing, bare))}
  order by ${bare ? '' : 'key is null, '}id
), ${bare ? STORED_BARE : STORED}${again ? '\n  on conflict (id) do nothing' : ''}
  returning id, due_at, run_id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, executor_config,
            schedule_to_start_ms, progress_timeout_ms,
            case when executor_config is null and progress_timeout_ms is null and octet_length(input) <= ${INLINE_INPUT_BYTES} then input end as inline
), ${handing ? `${handOver('stored', 'id')}, ` : ''}to_ready as (
  insert into baton.ready (task_id, position, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
  select id, id, run_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, inline
  from stored where due_at is null${handing ? ' and id <> all(array(select id from handed))' : ''}
), ${bare ? '' : LATER}logged as (
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

export const SUBMIT = submitStatement(false, false, false);
/** The same, where sessions wait for some of these tasks: see `handOver`. */
export const SUBMIT_HANDING = submitStatement(true, false, false);
export const SUBMIT_BARE = submitStatement(false, false, true);
export const SUBMIT_BARE_HANDING = submitStatement(true, false, true);
const SUBMIT_AGAIN = submitStatement(false, true, false);
const SUBMIT_HANDING_AGAIN = submitStatement(true, true, false);

/** A task of the batch is there already, so nothing was stored. */
const UNIQUE_VIOLATION = '23505';

/** @returns who was given which; of a task that was there already, nothing */
async function send(sql: Sql, batch: readonly NewTask[], takers: Takers | null): Promise<Row[]> {
  try {
    const bare = batch.every(isBare);
    if (bare && batch.length === 1) {
      const id = batch[0]!.id;
      const taker = takers?.[0] ?? null;
      const text = taker === null ? SUBMIT_ONE : SUBMIT_ONE_HANDING;
      const rows = await sql.unsafe(text, loneParameters(batch[0]!, taker), { prepare: true });
      return rows.map((row) => ({ id, session_id: row.session_id }));
    }
    const [plain, handing] = bare ? [SUBMIT_BARE, SUBMIT_BARE_HANDING] : [SUBMIT, SUBMIT_HANDING];
    const text = takers === null ? plain : handing;
    return await sql.unsafe(text, submitParameters(batch, takers, bare), { prepare: true });
  } catch (error) {
    if ((error as { code?: string }).code !== UNIQUE_VIOLATION) throw error;
    const text = takers === null ? SUBMIT_AGAIN : SUBMIT_HANDING_AGAIN;
    return await sql.unsafe(text, submitParameters(batch, takers, false), { prepare: true });
  }
}

/** A task that was stored, or (once more) one that was handed over. */
interface Row {
  id: string;
  session_id?: string | null;
}

const seldom = (batch: readonly NewTask[]) => [
  numbers(noneOr(batch.map((t) => t.dueAtMs))),
  jsons(noneOr(batch.map((t) => t.extra))),
  texts(noneOr(batch.map((t) => t.idempotency?.scope ?? null))),
  texts(noneOr(batch.map((t) => t.idempotency?.key ?? null))),
  byteas(noneOr(batch.map((t) => t.idempotency?.bodyHash ?? null))),
  numbers(noneOr(batch.map((t) => t.idempotency?.ttlMs ?? null))),
];

const submitParameters = (batch: readonly NewTask[], takers: Takers | null, bare: boolean) => {
  const [inputs, inputEnds, inputBytes] = packed(batch.map((t) => t.input));
  return [
    inputs,
    numbers(batch.map((t) => t.id)),
    numbers(once(batch.map((t) => t.namespaceId))),
    numbers(once(batch.map((t) => t.routeId))),
    numbers(once(batch.map((t) => t.laneId))),
    numbers(once(batch.map((t) => t.priority))),
    numbers(once(batch.map((t) => t.maxAttempts))),
    numbers(once(batch.map((t) => t.startToCloseMs))),
    numbers(once(batch.map((t) => t.encoding))),
    inputEnds,
    inputBytes,
    ...(bare ? [] : seldom(batch)),
    ...(takers === null ? [] : [takersOf(takers)]),
  ];
};

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
