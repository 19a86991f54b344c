import type { Sql } from '../database/connection.ts';
import { numbers, packed, unpacked } from '../database/literals.ts';

/** A row of `task_outputs` is at most this long; a page of a reader is one of these, or a little more. */
export const OUTPUT_ROW_BYTES = 128 * 1024;

/** Output of one lease without a gap in it, in pieces of at most OUTPUT_ROW_BYTES. */
export interface OutputRun {
  sessionId: string;
  taskId: string;
  epoch: number;
  /** Of the first byte, counted from the attempt's beginning. */
  offset: number;
  pieces: readonly Uint8Array[];
}

/**
 * What became of a run: `endedAt` is where the output ended before it (null: the lease is not held). It was taken, as far as it was
 * new, if it began there or before; otherwise there is a gap and nothing of it was kept.
 */
export interface OutputVerdict {
  endedAt: number | null;
}

/**
 * Adds to what running tasks stream. Fenced by (task, epoch, session), the lease locked; without a gap; what is there already is
 * not written again.
 *
 * Where the output ends is read in the statement's snapshot. Of two calls at once that both begin there, one violates the primary
 * key with its first piece, and is repeated whole (23505): whatever was committed after a snapshot begins where that snapshot saw
 * the end. So there is at most one run of a lease in a batch.
 */
export const APPEND_OUTPUT = `/* baton append output */
with input as materialized (
  select session_id, task_id, epoch, byte_offset, ${unpacked('$5', 'data_end', 'data_bytes')} as data
  from (select i.*, coalesce(i.data_length, ($7::integer[])[1]) as data_bytes
        from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::bigint[], $6::integer[], $7::integer[])
          i(session_id, task_id, epoch, byte_offset, data_end, data_length)) i
), runs as materialized (
  select session_id, task_id, epoch, min(byte_offset) as starts from input group by 1, 2, 3 order by task_id, epoch, session_id
), held as materialized (
  select r.*, l.attempt, e.ends from runs r cross join lateral (
    select l.attempt from baton.leases l
    where l.task_id = r.task_id and l.epoch = r.epoch and l.session_id + 0 = r.session_id limit 1 for no key update
  ) l cross join lateral (
    select coalesce((select o.byte_offset + length(o.data) from baton.task_outputs o
                     where o.task_id = r.task_id and o.epoch = r.epoch order by o.byte_offset desc limit 1), 0) as ends
  ) e
), kept as (
  insert into baton.task_outputs (task_id, byte_offset, at, epoch, attempt, data)
  select i.task_id, greatest(i.byte_offset, h.ends), clock_timestamp(), i.epoch, h.attempt,
         case when i.byte_offset < h.ends then substring(i.data from (h.ends - i.byte_offset + 1)::integer) else i.data end
  from input i join held h on h.task_id = i.task_id and h.epoch = i.epoch and h.session_id = i.session_id
  where h.starts <= h.ends and i.byte_offset + length(i.data) > h.ends
  order by i.task_id, i.epoch, i.byte_offset
)
select r.session_id, r.task_id, r.epoch, h.ends from runs r
left join held h on h.task_id = r.task_id and h.epoch = r.epoch and h.session_id = r.session_id`;

/** At most one run of a lease; sorted by task. @throws 23505 when another call wrote at the same place: repeat it */
export async function appendOutputs(sql: Sql, runs: readonly OutputRun[]): Promise<OutputVerdict[]> {
  const sessions: string[] = [];
  const tasks: string[] = [];
  const epochs: number[] = [];
  const offsets: number[] = [];
  const data: Uint8Array[] = [];
  for (const run of runs) {
    let offset = run.offset;
    for (const piece of run.pieces) {
      sessions.push(run.sessionId);
      tasks.push(run.taskId);
      epochs.push(run.epoch);
      offsets.push(offset);
      data.push(piece);
      offset += piece.byteLength;
    }
  }
  const rows = await sql.unsafe(
    APPEND_OUTPUT,
    [numbers(sessions), numbers(tasks), numbers(epochs), numbers(offsets), ...packed(data)],
    { prepare: true },
  );
  const ends = new Map(rows.map((r) => [`${r.task_id}/${r.epoch}/${r.session_id}`, r.ends as string | null]));
  return runs.map(({ taskId, epoch, sessionId }) => {
    const end = ends.get(`${taskId}/${epoch}/${sessionId}`) ?? null;
    return { endedAt: end === null ? null : Number(end) };
  });
}

/** One lease of a task, as the readers of its output know it. */
export interface OutputAttempt {
  attempt: number;
  epoch: number;
  /** Bytes so far. */
  length: number;
}

/**
 * The attempt whose output counts: the newest that has sent some, or ended otherwise than by being handed back. It only moves
 * forward: a lease that was handed back without a byte never was one.
 *
 * @param attempt only of attempts with this number; null: of all
 */
export async function newestOutputAttempt(
  sql: Sql,
  taskId: string,
  attempt: number | null,
): Promise<OutputAttempt | null> {
  return one(
    sql,
    `/* baton newest output */
     select c.attempt, c.epoch, ${LENGTH} as length from (
       (select o.epoch, o.attempt from baton.task_outputs o where o.task_id = $1 and ($2::integer is null or o.attempt = $2)
        order by o.epoch desc limit 1)
       union all
       (select a.epoch, a.attempt from baton.attempts a
        where a.task_id = $1 and a.state <> 'returned' and ($2::integer is null or a.attempt = $2) order by a.epoch desc limit 1)
     ) c order by c.epoch desc limit 1`,
    [taskId, attempt],
  );
}

/** The attempt of this epoch, if it has sent or ended. */
export async function outputAttempt(sql: Sql, taskId: string, epoch: number): Promise<OutputAttempt | null> {
  return one(
    sql,
    `/* baton output attempt */
     select c.attempt, c.epoch, ${LENGTH} as length from (
       (select o.epoch, o.attempt from baton.task_outputs o where o.task_id = $1 and o.epoch = $2 limit 1)
       union all
       (select a.epoch, a.attempt from baton.attempts a where a.task_id = $1 and a.epoch = $2)
     ) c limit 1`,
    [taskId, epoch],
  );
}

const LENGTH = `coalesce((select l.byte_offset + length(l.data) from baton.task_outputs l
  where l.task_id = $1 and l.epoch = c.epoch order by l.byte_offset desc limit 1), 0)`;

async function one(sql: Sql, text: string, params: (string | number | null)[]): Promise<OutputAttempt | null> {
  const [row] = await sql.unsafe(text, params, { prepare: true });
  return row
    ? { attempt: row.attempt as number, epoch: row.epoch as number, length: Number(row.length as string) }
    : null;
}

/**
 * A page of an attempt's output from a byte on: at least one row if there is any, then more until OUTPUT_ROW_BYTES. The sizes are
 * summed without reading the bytes.
 */
export async function readOutput(sql: Sql, taskId: string, epoch: number, offset: number): Promise<Uint8Array | null> {
  const rows = await sql.unsafe(
    `/* baton read output */
     select byte_offset, data from (
       select o.byte_offset, o.data, sum(length(o.data)) over (order by o.byte_offset) - length(o.data) as before from (
         select byte_offset, data from baton.task_outputs
         where task_id = $1 and epoch = $2 and byte_offset >= coalesce((
           select max(byte_offset) from baton.task_outputs where task_id = $1 and epoch = $2 and byte_offset <= $3), 0)
         order by byte_offset limit 2000
       ) o
     ) p where before < $4 order by byte_offset`,
    [taskId, epoch, offset, OUTPUT_ROW_BYTES],
    { prepare: true },
  );
  const parts: Uint8Array[] = [];
  let at = offset;
  for (const row of rows) {
    const starts = Number(row.byte_offset as string);
    const bytes = row.data as Uint8Array;
    if (starts + bytes.byteLength <= at) continue;
    parts.push(bytes.subarray(at - starts));
    at = starts + bytes.byteLength;
  }
  if (parts.length === 0) return null;
  if (parts.length === 1) return parts[0]!;
  const page = new Uint8Array(at - offset);
  let written = 0;
  for (const part of parts) {
    page.set(part, written);
    written += part.byteLength;
  }
  return page;
}
