import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { bytesOfBase64, numbers } from '../database/literals.ts';
import type { Encoding } from './new-task.ts';

/** What came out of a task. */
export interface TaskEnd {
  taskId: string;
  state: 'succeeded' | 'failed' | 'cancelled';
  /** Null where a blob is the output, and where there is none. */
  output: Uint8Array | null;
  encoding: Encoding | null;
  outputBlob: { sha256: string; sizeBytes: number } | null;
  /** Of the last attempt, of a task that failed. */
  failure: Failure | null;
  cancelReason: string | null;
}

export interface FoundEnds {
  /** In the order asked. */
  ends: TaskEnd[];
  /** Have ended too, but the answer is full. */
  later: string[];
  /** Have not ended; only where they were asked for. */
  open: string[];
}

/**
 * How these tasks ended, by the key of `outcomes` and nothing else, as far as about $3 bytes go (the first in any case; sizes are summed
 * without reading the outputs). $4: also which of the others there are. What is in neither list is no task of the namespace. Each is
 * looked up: joins, planned while the tables were small, would walk over all that has ended.
 */
export const READ_ENDS = `/* baton read ends */
select s.task_id, s.state, s.before >= $3 as is_later, s.output_encoding, s.cancel_reason,
       case when s.before < $3 then encode(s.output, 'base64') end as output,
       case when s.before < $3 then s.failure end as failure,
       encode(s.output_blob, 'hex') as output_blob,
       (select b.size_bytes from baton.blobs b where b.namespace_id = s.namespace_id and b.sha256 = s.output_blob) as output_size
from (
  select o.*, sum(coalesce(length(o.output), 0) + coalesce(pg_column_size(o.failure), 0) + 100) over (order by i.n)
              - coalesce(length(o.output), 0) - coalesce(pg_column_size(o.failure), 0) - 100 as before
  from unnest($1::bigint[]) with ordinality i(id, n) cross join lateral (
    select o.* from baton.outcomes o where o.task_id = i.id and o.namespace_id = $2 limit 1
  ) o
) s
union all
select t.id, 'open', false, null, null, null, null, null, null
from unnest($1::bigint[]) i(id)
cross join lateral (select t.id from baton.tasks t where t.id = i.id and t.namespace_id = $2 limit 1) t
where $4::boolean and (select o.task_id from baton.outcomes o where o.task_id = i.id limit 1) is null`;

export async function readEnds(
  sql: Sql,
  namespaceId: number,
  taskIds: readonly string[],
  maxBytes: number,
  tellsOpen: boolean,
): Promise<FoundEnds> {
  const rows = await sql.unsafe(READ_ENDS, [numbers(taskIds), namespaceId, maxBytes, tellsOpen], { prepare: true });
  const found: FoundEnds = { ends: [], later: [], open: [] };
  for (const r of rows) {
    const taskId = r.task_id as string;
    if (r.state === 'open') found.open.push(taskId);
    else if (r.is_later) found.later.push(taskId);
    else
      found.ends.push({
        taskId,
        state: r.state as TaskEnd['state'],
        output: r.output === null ? null : bytesOfBase64(r.output as string),
        encoding: r.output_encoding as Encoding | null,
        outputBlob:
          r.output_blob === null ? null : { sha256: r.output_blob as string, sizeBytes: Number(r.output_size) },
        failure: r.failure as Failure | null,
        cancelReason: r.cancel_reason as string | null,
      });
  }
  return found;
}
