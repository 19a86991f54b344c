import type { Sql } from '../database/connection.ts';

/**
 * Puts weekly partitions of the past in the place of a new database's first ones, as a database has them that has been in use for so
 * many weeks: the oldest reaches back without end. For tests of what age does; the tables must be empty.
 */
export async function makePast(sql: Sql, weeks: number): Promise<void> {
  await sql.unsafe(`do $$
    declare
      parent text;
      part record;
      monday timestamptz := date_trunc('week', clock_timestamp() at time zone 'UTC') at time zone 'UTC';
      from_at timestamptz;
      lower_bound text;
      upper_bound text;
    begin
      for parent in select relname from pg_class where relnamespace = 'baton'::regnamespace and relkind = 'p' loop
        for part in select inhrelid::regclass as name from pg_inherits where inhparent = ('baton.' || parent)::regclass loop
          execute format('drop table %s', part.name);
        end loop;
        for week in reverse ${weeks}..0 loop
          from_at := monday - week * interval '7 days';
          lower_bound := case when week = ${weeks} then 'minvalue' when parent = 'events' then quote_literal(from_at) else baton.id_at(from_at)::text end;
          upper_bound := case when parent = 'events' then quote_literal(from_at + interval '7 days') else baton.id_at(from_at + interval '7 days')::text end;
          execute format('create table baton.%I (like baton.%I including all excluding identity)', parent || '_' || to_char(from_at at time zone 'UTC', 'IYYY"w"IW'), parent);
          execute format('alter table baton.%I attach partition baton.%I for values from (%s) to (%s)',
            parent, parent || '_' || to_char(from_at at time zone 'UTC', 'IYYY"w"IW'), lower_bound, upper_bound);
        end loop;
      end loop;
      perform baton.ensure_partitions();
    end $$`);
}

/** Ids of tasks of so many days ago, each another one. */
export async function idsOfPast(sql: Sql, days: number, count: number): Promise<string[]> {
  const rows = await sql.unsafe(
    `select (baton.id_at(clock_timestamp() - $1::double precision * interval '1 day') + n)::text as id from generate_series(1, $2::integer) n`,
    [days, count],
  );
  return rows.map((r) => r.id as string);
}
