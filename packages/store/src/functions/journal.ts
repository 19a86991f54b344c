import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { byteas, jsons, numbers, texts } from '../database/literals.ts';
import type { Encoding } from '../tasks/new-task.ts';

export type JournalKind = 'step' | 'sleep' | 'signal' | 'task' | 'child';
export const JOURNAL_KINDS = ['step', 'sleep', 'signal', 'task', 'child'] as const satisfies readonly JournalKind[];

/** What the holder of a run's lease adds to its journal. */
export interface NewJournalEntry {
  number: number;
  kind: JournalKind;
  name: string;
  afterPosition: number;
  /** It is over; otherwise it waits. */
  ended: boolean;
  attempts: number;
  encoding: Encoding | null;
  output: Uint8Array | null;
  failure: Failure | null;
  /** From now. */
  dueInMs: number | null;
  /** Wall clock, ms; instead of `dueInMs`. */
  dueAtMs: number | null;
  /** The task or the run that it makes. */
  refId: string | null;
  /** When it was over, wall clock, ms; null or missing: when it is written. */
  endedAtMs?: number | null;
}

export interface JournalAppend {
  taskId: string;
  epoch: number;
  sessionId: string;
  seenPosition: number;
  entries: readonly NewJournalEntry[];
}

export interface JournalRow {
  runId: string;
  number: number;
  kind: JournalKind;
  name: string;
  /** 0: not resolved. */
  position: number;
  afterPosition: number;
  atMs: number;
  endedAtMs: number | null;
  dueAtMs: number | null;
  refId: string | null;
  attempts: number;
  encoding: Encoding | null;
  output: Uint8Array | null;
  outputBlob: { sha256: string; sizeBytes: number } | null;
  failure: Failure | null;
}

/** A journal whose lease is held. */
export interface HeldJournal {
  taskId: string;
  runId: string;
  namespaceId: number;
  wakes: string;
  /** Entries that are not resolved and that not the code resolves: something may have happened to them. */
  open: number;
  /** The highest position before. */
  last: number;
  nowMs: number;
}

/**
 * Adds entries to the journals of runs, each by the holder of the lease of the run's task: the fence is (task, epoch, session), locked. The
 * lock also keeps two writers of one journal apart, so that places in the order of outcomes are given out one by one; a writer that
 * waited for it saw the journal as it was before, and is stopped by the unique index (SQLSTATE 23505): it is to be repeated.
 *
 * A repeated entry changes nothing, but for a step that is to be tried again. What is not over is resolved elsewhere: RESOLVE.
 * Progress forgets crashes: what kills its worker now is another step than what did before.
 *
 * On 2 busy cores: 1.0 ms alone, of which the foreign key takes 0.1; 110 µs a run in batches of 16.
 */
export const APPEND_JOURNAL = `/* baton append journal */
with input as materialized (
  select * from unnest($1::bigint[], $2::integer[], $3::bigint[]) i(task_id, epoch, session_id) order by task_id
), held as materialized (
  select l.task_id, l.run_id, l.crashes from input i cross join lateral (
    select l.task_id, l.run_id, l.crashes from baton.leases l
    where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id and l.run_id is not null limit 1 for update
  ) l
), run as materialized (
  select h.task_id, u.id, u.namespace_id, u.wakes,
         coalesce((select j.position from baton.journal j where j.run_id = u.id and j.position is not null order by j.position desc limit 1), 0) as last,
         (select count(*)::integer from baton.journal j where j.run_id = u.id and j.position is null and j.kind <> 'step') as open
  from held h cross join lateral (
    select u.id, u.namespace_id, u.wakes from baton.runs u where u.id = h.run_id and u.driver_task_id = h.task_id limit 1
  ) u
), added as (
  insert into baton.journal as j (run_id, number, position, after_position, ended_at, due_at, ref_id, attempts, encoding, kind, name, output, failure)
  select run.id, e.number, case when e.ended then run.last + e.nth end, e.after_position, case when e.ended then coalesce(to_timestamp(e.ended_at_ms / 1000), clock_timestamp()) end,
         coalesce(to_timestamp(e.due_at_ms / 1000), clock_timestamp() + e.due_in_ms * interval '1 ms'), e.ref_id, e.attempts, e.encoding, e.kind, e.name,
         e.output, e.failure::jsonb
  from (select e.*, row_number() over (partition by e.task_id order by not e.ended, e.n) as nth
        from unnest($4::bigint[], $5::integer[], $6::text[], $7::text[], $8::integer[], $9::boolean[], $10::integer[], $11::smallint[], $12::bytea[],
                    $13::text[], $14::double precision[], $15::double precision[], $16::bigint[], $17::double precision[])
          with ordinality e(task_id, number, kind, name, after_position, ended, attempts, encoding, output, failure, due_in_ms, due_at_ms, ref_id, ended_at_ms, n)) e
  join run on run.task_id = e.task_id
  order by run.id, e.number
  on conflict (run_id, number) do update
    set position = excluded.position, ended_at = excluded.ended_at, due_at = excluded.due_at, attempts = excluded.attempts,
        encoding = excluded.encoding, output = excluded.output, failure = excluded.failure
    where j.kind = 'step' and j.position is null and excluded.kind = 'step' and excluded.attempts > j.attempts
  returning j.run_id, j.number, j.position, j.kind, (extract(epoch from j.ended_at) * 1000)::double precision as ended_ms,
            (extract(epoch from j.due_at) * 1000)::double precision as due_ms, j.ref_id
), recovered as (
  update baton.leases l set crashes = 0, max_attempts = least(l.max_attempts + l.crashes, 32767)
  where l.task_id = any(array(select h.task_id from held h where h.crashes > 0 and h.run_id = any(array(select run_id from added))))
)
select run.task_id, run.id as run_id, run.namespace_id, run.wakes, run.open, run.last, (extract(epoch from clock_timestamp()) * 1000)::double precision as now_ms,
       a.number, a.position, a.kind, a.ended_ms, a.due_ms, a.ref_id
from run left join added a on a.run_id = run.id`;

/** What was written of an entry now; its rest is as it was sent. */
export interface AddedEntry {
  number: number;
  position: number;
  endedAtMs: number | null;
  dueAtMs: number | null;
  refId: string | null;
}

export interface AppendedJournal extends HeldJournal {
  /** Those that were not there before. */
  added: AddedEntry[];
}

/** The entries of these, one array a column, in the order of the statements that take them. */
export function entryParameters(batch: readonly { taskId: string; entries: readonly NewJournalEntry[] }[]): string[] {
  const flat = batch.flatMap(({ taskId, entries }) => entries.map((entry) => ({ taskId, ...entry })));
  return [
    numbers(flat.map((e) => e.taskId)),
    numbers(flat.map((e) => e.number)),
    texts(flat.map((e) => e.kind)),
    texts(flat.map((e) => e.name)),
    numbers(flat.map((e) => e.afterPosition)),
    `{${flat.map((e) => (e.ended ? 't' : 'f')).join(',')}}`,
    numbers(flat.map((e) => e.attempts)),
    numbers(flat.map((e) => e.encoding)),
    byteas(flat.map((e) => e.output)),
    jsons(flat.map((e) => e.failure)),
    numbers(flat.map((e) => e.dueInMs)),
    numbers(flat.map((e) => e.dueAtMs)),
    numbers(flat.map((e) => e.refId)),
    numbers(flat.map((e) => e.endedAtMs ?? null)),
  ];
}

/** @returns by task; those whose lease is not held are missing */
export async function appendJournal(sql: Sql, batch: readonly JournalAppend[]): Promise<Map<string, AppendedJournal>> {
  const rows = await sql.unsafe(
    APPEND_JOURNAL,
    [
      numbers(batch.map((a) => a.taskId)),
      numbers(batch.map((a) => a.epoch)),
      numbers(batch.map((a) => a.sessionId)),
      ...entryParameters(batch),
    ],
    { prepare: true },
  );
  const journals = new Map<string, AppendedJournal>();
  for (const r of rows) {
    let journal = journals.get(r.task_id as string);
    if (!journal) {
      journal = { ...toHeld(r), added: [] };
      journals.set(journal.taskId, journal);
    }
    if (r.number === null) continue;
    journal.added.push({
      number: r.number as number,
      position: (r.position as number | null) ?? 0,
      endedAtMs: wholeMs(r.ended_ms),
      dueAtMs: wholeMs(r.due_ms),
      refId: r.ref_id as string | null,
    });
    if (r.kind !== 'step' && r.position === null) journal.open++;
  }
  return journals;
}

/**
 * Resolves what has happened to the waits of runs, by the holder of the lease: tasks and runs that ended, signals (by name, first come
 * first served), times that are over. They get their places in the order in which they happened.
 *
 * The number of wakes is that of this statement's snapshot, and the run's row is not locked: were it, the newest number would be read
 * beside older signals and ends, and what lies between would never wake anybody. With `$4` a suspended run is running again.
 */
export const RESOLVE_JOURNAL = `/* baton resolve journal */
with input as materialized (
  select * from unnest($1::bigint[], $2::integer[], $3::bigint[]) i(task_id, epoch, session_id) order by task_id
), held as materialized (
  select l.task_id, l.run_id from input i cross join lateral (
    select l.task_id, l.run_id from baton.leases l
    where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id and l.run_id is not null limit 1 for update
  ) l
), run as materialized (
  select h.task_id, u.id, u.namespace_id, u.wakes,
         coalesce((select j.position from baton.journal j where j.run_id = u.id and j.position is not null order by j.position desc limit 1), 0) as last
  from held h cross join lateral (
    select u.id, u.namespace_id, u.wakes from baton.runs u where u.id = h.run_id and u.driver_task_id = h.task_id limit 1
  ) u
), open as materialized (
  select j.*, row_number() over (partition by j.run_id, j.kind, j.name order by j.number) as nth
  from run cross join lateral (
    select j.run_id, j.number, j.kind, j.name, j.due_at, j.ref_id from baton.journal j
    where j.run_id = run.id and j.position is null and j.kind <> 'step'
  ) j
), signal as materialized (
  select s.*, row_number() over (partition by s.run_id, s.name order by s.id) as nth
  from run cross join lateral (
    select s.id, s.run_id, s.name, s.at, s.encoding, s.payload from baton.run_signals s where s.run_id = run.id and s.taken_by is null
  ) s
), happened as materialized (
  select o.run_id, o.number, s.id as signal_id, s.at as ended_at, s.encoding, s.payload as output, null::bytea as output_blob, null::jsonb as failure
  from open o join signal s on s.run_id = o.run_id and s.name = o.name and s.nth = o.nth where o.kind = 'signal'
  union all
  select o.run_id, o.number, null, o.due_at, null, null, null, null
  from open o where o.kind in ('sleep', 'signal') and o.due_at <= clock_timestamp()
    and not (o.kind = 'signal' and exists (select from signal s where s.run_id = o.run_id and s.name = o.name and s.nth = o.nth))
  union all
  select o.run_id, o.number, null, e.ended_at, e.output_encoding, e.output, e.output_blob,
         case e.state when 'failed' then coalesce(e.failure, '{"type": "UNKNOWN", "message": "no reason was recorded"}')
                      when 'cancelled' then jsonb_build_object('type', 'UNKNOWN', 'exceptionType', 'TaskCancelled', 'nonRetryable', true,
                        'message', concat('the task was cancelled', ': ' || nullif(e.cancel_reason, ''))) end
  from open o join baton.outcomes e on e.task_id = o.ref_id where o.kind = 'task'
  union all
  select o.run_id, o.number, null, c.ended_at, c.output_encoding, case when c.state = 'succeeded' then c.output end, case when c.state = 'succeeded' then c.output_blob end,
         case c.state when 'failed' then coalesce(c.failure, jsonb_build_object('type', 'EVALUATION_ERROR', 'message', coalesce(c.failure_message, 'no reason was recorded')))
                      when 'cancelled' then jsonb_build_object('type', 'UNKNOWN', 'exceptionType', 'RunCancelled', 'nonRetryable', true,
                        'message', concat('the run was cancelled', ': ' || nullif(c.cancel_reason, ''))) end
  from open o join baton.runs c on c.id = o.ref_id where o.kind = 'child' and c.state in ('succeeded', 'failed', 'cancelled')
), resolved as (
  update baton.journal j
  set position = p.position, ended_at = coalesce(p.ended_at, clock_timestamp()), encoding = p.encoding, output = p.output, output_blob = p.output_blob, failure = p.failure
  from (select h.*, run.last + row_number() over (partition by h.run_id order by h.ended_at, h.number) as position
        from happened h join run on run.id = h.run_id) p
  where j.run_id = p.run_id and j.number = p.number
  returning j.run_id, j.number
), taken as (
  update baton.run_signals s set taken_by = h.number from happened h where s.id = h.signal_id
), going as (
  update baton.runs u set state = 'running', revision = u.revision + 1, waiting_for = null from run where $4 and u.id = run.id and u.state = 'waiting'
)
select run.task_id, run.id as run_id, run.namespace_id, run.wakes, run.last, (extract(epoch from clock_timestamp()) * 1000)::double precision as now_ms,
       (select count(*)::integer from open o where o.run_id = run.id) - (select count(*)::integer from resolved r where r.run_id = run.id) as open
from run`;

/** @param isLoad the run goes on: it is not waiting any more. @returns by task; those whose lease is not held are missing */
export async function resolveJournal(
  sql: Sql,
  leases: readonly { taskId: string; epoch: number; sessionId: string }[],
  isLoad: boolean,
): Promise<Map<string, HeldJournal>> {
  const rows = await sql.unsafe(
    RESOLVE_JOURNAL,
    [
      numbers(leases.map((l) => l.taskId)),
      numbers(leases.map((l) => l.epoch)),
      numbers(leases.map((l) => l.sessionId)),
      isLoad,
    ],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.task_id as string, toHeld(r)]));
}

const COLUMNS = `j.run_id, j.number, j.kind, j.name, j.position, j.after_position, (extract(epoch from j.at) * 1000)::double precision as at_ms,
  (extract(epoch from j.ended_at) * 1000)::double precision as ended_ms, (extract(epoch from j.due_at) * 1000)::double precision as due_ms,
  j.ref_id, j.attempts, j.encoding, j.failure, encode(j.output_blob, 'hex') as output_blob, b.size_bytes`;
const BLOB = `left join baton.runs u on j.output_blob is not null and u.id = j.run_id
  left join baton.blobs b on b.namespace_id = u.namespace_id and b.sha256 = j.output_blob`;

/** What was resolved behind the positions asked about, by position: so many bytes of outputs of each run, but at least one entry. */
export async function readResolved(
  sql: Sql,
  asked: readonly { runId: string; seenPosition: number }[],
  maxBytes: number,
): Promise<Map<string, { rows: JournalRow[]; more: boolean }>> {
  const rows = await sql.unsafe(
    `/* baton read resolved */ select ${COLUMNS}, j.output, (select max(x.position) from baton.journal x where x.run_id = j.run_id) as newest
     from unnest($1::bigint[], $2::integer[]) i(run_id, seen) cross join lateral (
       select * from (
         select j.*, sum(coalesce(octet_length(output), 0)) over (order by j.position) - coalesce(octet_length(output), 0) as bytes_before
         from (select * from baton.journal j where j.run_id = i.run_id and j.position > i.seen order by j.position limit 5000) j
       ) j where j.bytes_before <= $3 order by j.position
     ) j ${BLOB} order by j.run_id, j.position`,
    [numbers(asked.map((a) => a.runId)), numbers(asked.map((a) => a.seenPosition)), maxBytes],
    { prepare: true },
  );
  const byRun = new Map<string, { rows: JournalRow[]; more: boolean }>();
  for (const r of rows) {
    const row = toJournalRow(r);
    const more = row.position < (r.newest as number);
    const known = byRun.get(row.runId);
    known?.rows.push(row);
    if (known) known.more = more;
    else byRun.set(row.runId, { rows: [row], more });
  }
  return byRun;
}

/** A page of a journal by number: so many entries at most, and so many bytes of outputs, but at least one entry. */
export async function readJournal(
  sql: Sql,
  runId: string,
  page: { after: number; limit: number; maxBytes: number; outputs: boolean },
): Promise<{ rows: JournalRow[]; more: boolean }> {
  const rows = await sql.unsafe(
    `/* baton read journal */ select ${COLUMNS}, ${page.outputs ? 'j.output' : 'null::bytea as output'}
     from (select *, sum(coalesce(octet_length(output), 0)) over (order by number) - coalesce(octet_length(output), 0) as bytes_before
           from (select * from baton.journal where run_id = $1 and number > $2 order by number limit $3) p) j ${BLOB}
     where j.bytes_before <= $4 order by j.number`,
    [runId, page.after, page.limit + 1, page.maxBytes],
    { prepare: true },
  );
  const taken = rows.slice(0, page.limit).map(toJournalRow);
  const last = taken.at(-1)?.number;
  if (last === undefined) return { rows: taken, more: false };
  const more =
    rows.length > page.limit ||
    (await sql.unsafe('select 1 from baton.journal where run_id = $1 and number > $2 limit 1', [runId, last])).length >
      0;
  return { rows: taken, more };
}

/** What of a journal is new behind a number, or resolved behind a position, a page by number. */
export async function readChangedEntries(
  sql: Sql,
  runId: string,
  behind: { number: number; position: number },
  page: { after: number; limit: number; outputs: boolean },
): Promise<JournalRow[]> {
  const rows = await sql.unsafe(
    `/* baton read changed entries */ select ${COLUMNS}, ${page.outputs ? 'j.output' : 'null::bytea as output'}
     from (select * from baton.journal where run_id = $1 and (number > $2 or position > $3) and number > $4 order by number limit $5) j ${BLOB}
     order by j.number`,
    [runId, behind.number, behind.position, page.after, page.limit],
    { prepare: true },
  );
  return rows.map(toJournalRow);
}

/** Which of these tasks and runs are there. */
export async function knownRefs(sql: Sql, kind: 'task' | 'child', ids: readonly string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set();
  const rows = await sql.unsafe(
    `/* baton known refs */ select t.id from unnest($1::bigint[]) i(id) join baton.${kind === 'task' ? 'tasks' : 'runs'} t on t.id = i.id`,
    [numbers(ids)],
    { prepare: true },
  );
  return new Set(rows.map((r) => r.id as string));
}

/** Ends waits that nothing will ever resolve: what they wait for could not be made. By the holder of the lease. */
export async function failEntries(
  sql: Sql,
  batch: readonly { runId: string; number: number; failure: Failure }[],
): Promise<void> {
  await sql.unsafe(
    `/* baton fail entries */
     update baton.journal j set position = p.position, ended_at = clock_timestamp(), failure = p.failure
     from (select i.run_id, i.number, i.failure::jsonb as failure,
                  row_number() over (partition by i.run_id order by i.number)
                    + coalesce((select max(x.position) from baton.journal x where x.run_id = i.run_id), 0) as position
           from unnest($1::bigint[], $2::integer[], $3::text[]) i(run_id, number, failure)) p
     where j.run_id = p.run_id and j.number = p.number and j.position is null`,
    [numbers(batch.map((b) => b.runId)), numbers(batch.map((b) => b.number)), jsons(batch.map((b) => b.failure))],
    { prepare: true },
  );
}

function toHeld(r: Record<string, unknown>): HeldJournal {
  return {
    taskId: r.task_id as string,
    runId: r.run_id as string,
    namespaceId: r.namespace_id as number,
    wakes: String(r.wakes),
    open: r.open as number,
    last: r.last as number,
    nowMs: Math.round(r.now_ms as number),
  };
}

function toJournalRow(r: Record<string, unknown>): JournalRow {
  return {
    runId: r.run_id as string,
    number: r.number as number,
    kind: r.kind as JournalKind,
    name: r.name as string,
    position: (r.position as number | null) ?? 0,
    afterPosition: r.after_position as number,
    atMs: Math.round(r.at_ms as number),
    endedAtMs: wholeMs(r.ended_ms),
    dueAtMs: wholeMs(r.due_ms),
    refId: r.ref_id as string | null,
    attempts: r.attempts as number,
    encoding: r.encoding as Encoding | null,
    output: r.output as Uint8Array | null,
    outputBlob: r.output_blob ? { sha256: r.output_blob as string, sizeBytes: Number(r.size_bytes ?? 0) } : null,
    failure: r.failure as Failure | null,
  };
}

/** The run whose driver's lease this session holds; null: it does not. */
export async function heldRun(
  sql: Sql,
  lease: { taskId: string; epoch: number; sessionId: string },
): Promise<string | null> {
  const [row] = await sql.unsafe(
    `/* baton held run */ select l.run_id from baton.leases l join baton.runs u on u.id = l.run_id and u.driver_task_id = l.task_id
     where l.task_id = $1 and l.epoch = $2 and l.session_id + 0 = $3`,
    [lease.taskId, lease.epoch, lease.sessionId],
    { prepare: true },
  );
  return row ? (row.run_id as string) : null;
}

/** Of these entries those that wait, with what they have made and when they are due. */
export async function readWaits(
  sql: Sql,
  entries: readonly { runId: string; number: number }[],
): Promise<(AddedEntry & { runId: string })[]> {
  const rows = await sql.unsafe(
    `/* baton read waits */ select j.run_id, j.number, j.ref_id, (extract(epoch from j.due_at) * 1000)::double precision as due_ms
     from unnest($1::bigint[], $2::integer[]) i(run_id, number)
     join baton.journal j on j.run_id = i.run_id and j.number = i.number and j.position is null`,
    [numbers(entries.map((e) => e.runId)), numbers(entries.map((e) => e.number))],
    { prepare: true },
  );
  return rows.map((r) => ({
    runId: r.run_id as string,
    number: r.number as number,
    position: 0,
    endedAtMs: null,
    dueAtMs: wholeMs(r.due_ms),
    refId: r.ref_id as string | null,
  }));
}

/** Messages carry whole milliseconds; what is due is not early. */
function wholeMs(ms: unknown): number | null {
  return ms === null ? null : Math.ceil(ms as number);
}
