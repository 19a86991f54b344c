import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import type { Encoding } from '../tasks/new-task.ts';

export interface NodeOutput {
  /** Null where a blob is the output, or there is none. */
  output: Uint8Array | null;
  encoding: Encoding;
  blob: { sha256: string; sizeBytes: number } | null;
}

/** Outputs of tasks that succeeded, by task. */
export async function taskOutputs(sql: Sql, taskIds: readonly string[]): Promise<Map<string, NodeOutput>> {
  const rows = await sql.unsafe(
    `/* baton task outputs */ select i.id, o.output, o.output_encoding, encode(o.output_blob, 'hex') as output_blob, b.size_bytes
     from unnest($1::bigint[]) i(id) cross join lateral (
       select o.namespace_id, o.output, o.output_encoding, o.output_blob from baton.outcomes o where o.task_id = i.id and o.state = 'succeeded' limit 1
     ) o left join baton.blobs b on b.namespace_id = o.namespace_id and b.sha256 = o.output_blob`,
    [numbers(taskIds)],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.id as string, toOutput(r)]));
}

/** Outputs of runs that succeeded, by run. */
export async function runOutputs(sql: Sql, runIds: readonly string[]): Promise<Map<string, NodeOutput>> {
  const rows = await sql.unsafe(
    `/* baton run outputs */ select r.id, r.output, r.output_encoding, encode(r.output_blob, 'hex') as output_blob, b.size_bytes
     from unnest($1::bigint[]) i(id) join baton.runs r on r.id = i.id
     left join baton.blobs b on b.namespace_id = r.namespace_id and b.sha256 = r.output_blob where r.state = 'succeeded'`,
    [numbers(runIds)],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.id as string, toOutput(r)]));
}

export interface ItemOutput extends NodeOutput {
  item: number;
  outputHash: string;
}

/** Outputs of the items of a node that succeeded, in the order of the items, a page. */
export async function itemOutputs(
  sql: Sql,
  node: { runId: string; ordinal: number },
  after: number,
  limit: number,
): Promise<ItemOutput[]> {
  const rows = await sql.unsafe(
    `/* baton item outputs */ select i.item, o.output, o.output_encoding, encode(o.output_blob, 'hex') as output_blob, b.size_bytes,
       coalesce(encode(o.output_blob, 'hex'), encode(sha256(o.output), 'hex')) as hash
     from (select * from baton.run_items where run_id = $1 and ordinal = $2 and item > $3 order by item limit $4) i
     cross join lateral (
       select o.namespace_id, o.output, o.output_encoding, o.output_blob from baton.outcomes o
       where o.task_id = i.task_id and o.state = 'succeeded'
       union all
       select c.namespace_id, c.output, c.output_encoding, c.output_blob from baton.runs c
       where c.id = i.child_run_id and c.state = 'succeeded'
     ) o left join baton.blobs b on b.namespace_id = o.namespace_id and b.sha256 = o.output_blob
     order by i.item`,
    [node.runId, node.ordinal, after, limit],
    { prepare: true },
  );
  return rows.map((r) => ({ item: r.item as number, outputHash: r.hash as string, ...toOutput(r) }));
}

function toOutput(r: Record<string, unknown>): NodeOutput {
  return {
    output: r.output as Uint8Array | null,
    encoding: (r.output_encoding ?? 1) as Encoding,
    blob: r.output_blob ? { sha256: r.output_blob as string, sizeBytes: Number(r.size_bytes ?? 0) } : null,
  };
}
