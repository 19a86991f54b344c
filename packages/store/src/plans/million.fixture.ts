import type { Sql } from '../database/connection.ts';

/** Shape of the generated history. Ids are `base(week) + n`, n from 1: a week's partition each, so that pruning shows. */
export const SHAPE = {
  tasks: 1_000_000,
  ready: 400_000,
  waiting: 100_000,
  leases: 2_000,
  ended: 498_000,
  lanes: 50,
  sessions: 200,
  eventRows: 20_000,
  weeks: 4,
} as const;

/**
 * Fills an empty migrated database: ids 1..ended have ended, then come leases, ready, waiting. Tasks are dealt to four weekly
 * partitions in turn: each kind of task has some in each week.
 */
export async function generateMillion(sql: Sql): Promise<void> {
  const { tasks, ready, waiting, leases, ended, lanes, sessions, eventRows } = SHAPE;
  await sql.unsafe(`set synchronous_commit = off; set statement_timeout = 0; set work_mem = '256MB'`);
  // Without WAL: no plan looks at it, and it is a third of the time.
  const all = await sql.unsafe(
    `select relname from pg_class where relnamespace = 'baton'::regnamespace and relkind = 'r' and relname ~ '^(tasks|attempts|outcomes|task_logs|events)_|^(ready|waiting|leases)$'`,
  );
  for (const { relname } of all) await sql.unsafe(`alter table baton.${relname} set unlogged`);
  await sql.unsafe(`
    insert into baton.queues (namespace_id, name) select 1, 'queue ' || n from generate_series(0, 9) n;
    insert into baton.routes (namespace_id, queue, kind) select 1, 'queue ' || n % 10, 'kind ' || n from generate_series(1, ${lanes}) n;
    insert into baton.lanes (namespace_id, route_id, executor, task_class) select 1, id, 'function', 'cpu_short' from baton.routes order by id;
    insert into baton.workers (namespace_id, name, session_id, capabilities, service_url, version, metadata, registered_at)
      select 1, 'w' || n, n, '{}', '', '', '{}', clock_timestamp() from generate_series(1, ${sessions}) n;
    insert into baton.sessions (id, expires_at, renewed_at, registered_at, namespace_id, worker_id, state, instance_id)
      select id, clock_timestamp() + interval '1 day', clock_timestamp(), clock_timestamp(), 1, id, 'active', 'i' from baton.workers`);
  await sql.unsafe(
    `create temp table numbered as select n, ${await idOf(sql)} as id, (n % ${lanes})::integer + 1 as lane from generate_series(1, ${tasks}) n`,
  );
  await sql.unsafe(`
    insert into baton.tasks (id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input)
      select id, 3600000, 1, lane, lane, 0, 4, 1, '\\x7b7d' from numbered;
    insert into baton.outcomes (task_id, ended_at, namespace_id, route_id, worker_id, epoch, attempt, output_encoding, state, output, failure)
      select id, clock_timestamp(), 1, lane, 1, 1, 1, 1, (array['succeeded', 'failed', 'cancelled'])[1 + (n / 50 % 20 = 0)::integer + (n / 50 % 40 = 0)::integer], '\\x31',
             case when n / 50 % 20 = 0 then '{"type": "UNKNOWN", "message": "no"}'::jsonb end
      from numbered where n <= ${ended};
    insert into baton.attempts (task_id, session_id, granted_at, ended_at, epoch, worker_id, attempt, state, failure)
      select id, 1, at, at, 1, n % ${sessions} + 1, 1, case when ends then 'failed' else 'succeeded' end,
             case when ends then jsonb_build_object('type', case when n % 1000 = 0 then 'GPU_ERROR' else 'UNKNOWN' end, 'message', 'no') end
      from (select n, id, n / 50 % 20 = 0 as ends, clock_timestamp() - (${ended} - n) * interval '10 ms' as at from numbered where n <= ${ended}) n;
    insert into baton.breakers (worker_id, device, state, changed_at, counted_from, reason)
      select id, '', case when id % 20 = 0 then 'half_open' else 'closed' end, clock_timestamp(), clock_timestamp() - interval '2 hours', 'r' from baton.workers`);
  await sql.unsafe(`
    insert into baton.leases (task_id, session_id, granted_at, position, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, input_encoding)
      select id, n % ${sessions} + 1, clock_timestamp(), id, 3600000, lane, 1, 0, 1, 4, 0, 1 from numbered where n > ${ended} and n <= ${ended + leases};
    insert into baton.ready (task_id, position, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
      select id, id, 3600000, lane, n % 3, 4, 1, '\\x7b7d' from numbered where n > ${ended + leases} and n <= ${ended + leases + ready};
    insert into baton.waiting (task_id, due_at, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, reason)
      select id, clock_timestamp() + (n - ${tasks - waiting} - 1000) * interval '1 s', 3600000, lane, 0, 4, 1, 'scheduled' from numbered where n > ${tasks - waiting};
    insert into baton.advances (run_id) select n from generate_series(1, 10000) n`);
  // Numbers of transactions that are over: what a reader sees ends below the oldest open one.
  await sql.unsafe(`
    insert into baton.events (xid, namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
      select (1 + n / 100)::text::xid8, '{1}', '{1}', array[n], '{0}', '{0}', '{0}' from generate_series(1, ${eventRows}) n;
    insert into baton.task_logs (task_id, sequence, at, epoch, attempt, stream, text)
      select id, line, clock_timestamp(), 1, 1, 'stdout', 'a line' from numbered, generate_series(1, 100) line where n <= 1000`);
  await sql.unsafe('vacuum analyze');
}

/**
 * Two sessions that hold many leases each (ids and words as in the large database), and much that is ready in one lane, while the
 * statistics are of a moment when all had been drained: Postgres expects one row in tables of many pages.
 */
export async function generateDrained(sql: Sql, counts: { perSession: number; ready: number }): Promise<void> {
  const { ended, lanes, sessions } = SHAPE;
  for (const table of ['ready', 'leases'])
    await sql.unsafe(`alter table baton.${table} set (autovacuum_enabled = off)`);
  await sql.unsafe(`
    insert into baton.queues (namespace_id, name) values (1, 'queue');
    insert into baton.routes (namespace_id, queue, kind) select 1, 'queue', 'kind ' || n from generate_series(1, ${lanes}) n;
    insert into baton.lanes (namespace_id, route_id, executor, task_class) select 1, id, 'function', 'cpu_short' from baton.routes order by id;
    insert into baton.workers (namespace_id, name, session_id, capabilities, service_url, version, metadata, registered_at)
      select 1, 'w' || n, n, '{}', '', '', '{}', clock_timestamp() from generate_series(1, ${sessions}) n;
    insert into baton.sessions (id, expires_at, renewed_at, registered_at, namespace_id, worker_id, state, instance_id)
      select id, clock_timestamp() + interval '1 day', clock_timestamp(), clock_timestamp(), 1, id, 'active', 'i' from baton.workers`);
  await sql.unsafe(`
    create temp table numbered as select n, ${await idOf(sql)} as id from generate_series(${ended + 1}, ${ended} + ${2 * counts.perSession + counts.ready}) n;
    insert into baton.leases (task_id, session_id, granted_at, position, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, input_encoding)
      select n, 3, clock_timestamp(), n, 1, 8, 1, 0, 1, 4, 0, 1 from generate_series(10001, 15000) n;
    insert into baton.ready (task_id, position, start_to_close_ms, lane_id, priority, max_attempts, input_encoding)
      select n, n, 1, 8, 0, 4, 1 from generate_series(1, 5000) n;
    delete from baton.leases where task_id > 10001;
    delete from baton.ready where task_id > 1;
    analyze;
    insert into baton.tasks (id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding, input)
      select id, 3600000, 1, 7, 7, 0, 4, 1, '\\x7b7d' from numbered;
    insert into baton.leases (task_id, session_id, granted_at, position, start_to_close_ms, lane_id, epoch, priority, attempt, max_attempts, crashes, input_encoding)
      select id, n % 2 + 1, clock_timestamp(), id, 3600000, 7, 1, 0, 1, 4, 0, 1 from numbered where n <= ${ended} + ${2 * counts.perSession};
    insert into baton.ready (task_id, position, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, input)
      select id, id, 3600000, 7, 0, 4, 1, '\\x7b7d' from numbered where n > ${ended} + ${2 * counts.perSession}`);
}

/** Ids as generateMillion made them. */
export async function idsOf(sql: Sql, from: number, count: number, step = 1): Promise<string[]> {
  const rows = await sql.unsafe(
    `select ${await idOf(sql)} as id from generate_series($1::bigint, $2::bigint, $3::bigint) n`,
    [from, from + (count - 1) * step, step],
  );
  return rows.map((r) => r.id as string);
}

/** Id of task n, as an expression: it is in week n % 4 from this one on, from the middle of that week on. */
async function idOf(sql: Sql): Promise<string> {
  const rows = await sql.unsafe(
    `select baton.id_at(date_trunc('week', now() at time zone 'UTC') at time zone 'UTC' + week * interval '7 days' + interval '3 days') as base
     from generate_series(0, ${SHAPE.weeks - 1}) week order by week`,
  );
  return `n + ('{${rows.map((r) => r.base).join(',')}}'::bigint[])[1 + n % ${SHAPE.weeks}]`;
}
