import type { Sql } from '../database/connection.ts';
import { numbers, texts } from '../database/literals.ts';

export interface NewLogLine {
  sessionId: string;
  taskId: string;
  epoch: number;
  attempt: number;
  sequence: string;
  /** By the worker's clock, ms since the epoch. */
  atMs: number;
  stream: string;
  text: string;
}

/**
 * Keeps log lines of leases that the session holds, or held (the last lines of an attempt may arrive after its result).
 * Returns which lines belonged to neither, by their places in `lines`.
 */
export async function appendLogs(sql: Sql, lines: readonly NewLogLine[]): Promise<Set<number>> {
  const rows = await sql.unsafe(
    `/* baton append logs */
     with input as materialized (
       select * from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::bigint[], $6::double precision[], $7::text[], $8::text[])
         with ordinality i(session_id, task_id, epoch, attempt, sequence, at_ms, stream, text, place)
     ), owned as materialized (
       select distinct i.task_id, i.epoch, i.session_id from input i cross join lateral (
         select 1 from baton.leases l where l.task_id = i.task_id and l.epoch = i.epoch and l.session_id + 0 = i.session_id
         union all
         select 1 from baton.attempts a where a.task_id = i.task_id and a.epoch = i.epoch and a.session_id = i.session_id
         limit 1
       ) o
     ), kept as (
       insert into baton.task_logs (task_id, sequence, at, epoch, attempt, stream, text)
       select i.task_id, i.sequence, to_timestamp(i.at_ms / 1000), i.epoch, i.attempt, i.stream, i.text
       from input i join owned o using (task_id, epoch, session_id)
       order by i.task_id, i.epoch, i.sequence on conflict do nothing
     )
     select (i.place - 1)::integer as place from input i where not exists (select from owned o where o.task_id = i.task_id and o.epoch = i.epoch and o.session_id = i.session_id)`,
    [
      numbers(lines.map((l) => l.sessionId)),
      numbers(lines.map((l) => l.taskId)),
      numbers(lines.map((l) => l.epoch)),
      numbers(lines.map((l) => l.attempt)),
      numbers(lines.map((l) => l.sequence)),
      numbers(lines.map((l) => l.atMs)),
      texts(lines.map((l) => l.stream)),
      texts(lines.map((l) => l.text)),
    ],
    { prepare: true },
  );
  return new Set(rows.map((r) => r.place as number));
}

export interface LogRow {
  attempt: number;
  epoch: number;
  sequence: string;
  at: Date;
  stream: string;
  text: string;
}

/** Text of one page, bytes; one line may be larger. */
const PAGE_BYTES = 256 * 1024;

/**
 * A task's lines behind (epoch, sequence), oldest first: at most `limit`, and from the first on as many as have about PAGE_BYTES
 * together. A reader that stands still has one page. Sizes are summed without reading the texts.
 */
export async function readLogs(
  sql: Sql,
  taskId: string,
  after: { epoch: number; sequence: string },
  limit: number,
): Promise<LogRow[]> {
  const rows = await sql.unsafe(
    `/* baton read logs */ select attempt, epoch, sequence, at, stream, text from (
       select l.*, sum(octet_length(l.text)) over (order by l.epoch, l.sequence) - octet_length(l.text) as before from (
         select * from baton.task_logs where task_id = $1 and (epoch, sequence) > ($2, $3) order by epoch, sequence limit $4
       ) l
     ) p where before < ${PAGE_BYTES} order by epoch, sequence`,
    [taskId, after.epoch, after.sequence, limit],
    { prepare: true },
  );
  return rows as unknown as LogRow[];
}
