import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import { RUN_COLUMNS, type RunRow, toRun } from './runs.ts';

export interface FoundRunEnds {
  /** Those that have ended, without their inputs. */
  ended: RunRow[];
  /** They have ended too, beyond the bytes asked for. */
  later: string[];
  open: string[];
}

/**
 * How these runs ended, as far as about $3 bytes go (the first in any case; sizes are summed without reading the outputs), and which have
 * not. What is in no list is no run of the namespace. Each is looked up: joins, planned while the tables were small, would walk over all.
 */
export const READ_RUN_ENDS = `/* baton read run ends */
with asked as materialized (
  select u.id, u.is_ended, sum(u.size) over (order by i.n) - u.size as before
  from unnest($1::bigint[]) with ordinality i(id, n) cross join lateral (
    select s.id, s.is_ended, case when s.is_ended then s.size else 0 end as size from (
      select u.id, u.state in ('succeeded', 'failed', 'cancelled') as is_ended,
             coalesce(length(u.output), 0) + coalesce(pg_column_size(u.failure), 0) + coalesce(pg_column_size(u.labels), 0) + 500 as size
      from baton.runs u where u.id = i.id and u.namespace_id = $2 limit 1
    ) s
  ) u
)
select a.id as asked_id, a.is_ended, r.* from asked a left join lateral (
  select ${RUN_COLUMNS.replace('u.input,', 'null::bytea as input,')}
  from baton.runs u where u.id = a.id and a.is_ended and a.before < $3 limit 1
) r on true`;

export async function readRunEnds(
  sql: Sql,
  namespaceId: number,
  runIds: readonly string[],
  maxBytes: number,
): Promise<FoundRunEnds> {
  const rows = await sql.unsafe(READ_RUN_ENDS, [numbers(runIds), namespaceId, maxBytes], { prepare: true });
  const found: FoundRunEnds = { ended: [], later: [], open: [] };
  for (const r of rows) {
    const id = r.asked_id as string;
    if (!r.is_ended) found.open.push(id);
    else if (r.id === null) found.later.push(id);
    else found.ended.push(toRun(r));
  }
  return found;
}
