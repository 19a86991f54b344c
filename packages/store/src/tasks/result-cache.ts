import type { Sql } from '../database/connection.ts';
import { byteas, numbers, texts } from '../database/literals.ts';

export interface CachedResult {
  taskId: string;
  workerId: number | null;
  outputHash: string | null;
}

/**
 * Results kept under these keys, in the order asked. Null where there is none: no task has been started for the key, it has not
 * succeeded, its end is longer ago than `ttlMs`, or it is forgotten.
 */
export async function lookUpResults(
  sql: Sql,
  keys: readonly { namespaceId: number; kind: string; keyHash: Uint8Array; ttlMs: number }[],
): Promise<(CachedResult | null)[]> {
  const rows = await sql.unsafe(
    `/* baton look up results */ select k.n, o.task_id, o.worker_id, coalesce(encode(o.output_blob, 'hex'), encode(sha256(o.output), 'hex')) as hash
     from unnest($1::integer[], $2::text[], $3::bytea[], $4::double precision[]) with ordinality k(namespace_id, kind, key_hash, ttl_ms, n)
     cross join lateral (
       select c.task_id from baton.result_cache c where c.namespace_id = k.namespace_id and c.kind = k.kind and c.key_hash = k.key_hash limit 1
     ) c cross join lateral (
       select o.* from baton.outcomes o where o.task_id = c.task_id and o.state = 'succeeded' and o.ended_at > clock_timestamp() - k.ttl_ms * interval '1 ms' limit 1
     ) o`,
    [
      numbers(keys.map((k) => k.namespaceId)),
      texts(keys.map((k) => k.kind)),
      byteas(keys.map((k) => k.keyHash)),
      numbers(keys.map((k) => k.ttlMs)),
    ],
    { prepare: true },
  );
  const found: (CachedResult | null)[] = keys.map(() => null);
  for (const r of rows)
    found[Number(r.n) - 1] = {
      taskId: r.task_id as string,
      workerId: r.worker_id as number | null,
      outputHash: r.hash as string | null,
    };
  return found;
}

/** Forgets results whose time is over, some of them. Returns how many. */
export async function dropExpiredResults(sql: Sql, limit = 5_000): Promise<number> {
  const rows = await sql.unsafe(
    `/* baton drop expired results */ delete from baton.result_cache where ctid = any(array(
       select ctid from baton.result_cache where expires_at < (select clock_timestamp()) order by expires_at limit $1 for update skip locked)) returning 1`,
    [limit],
    { prepare: true },
  );
  return rows.length;
}
