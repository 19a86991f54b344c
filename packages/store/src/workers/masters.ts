import type { Sql } from '../database/connection.ts';

/**
 * Leases a node number to this life of a master: the lowest that is free. The floor it returns is above every id that a former
 * holder can have made. Null when all are taken.
 *
 * Of masters that come at once, all but one lose the race for the lowest number: each loss is another's gain, so trying again ends.
 */
export async function leaseNode(
  sql: Sql,
  master: { instance: string; address: string; ttlMs: number; idFloor: string },
): Promise<{ node: number; idFloor: string } | null> {
  for (;;) {
    const [row] = await sql.unsafe(
      `/* baton lease node */
       with free as materialized (
         select n.node, m.id_floor from generate_series(0, 959) n(node) left join baton.masters m on m.node = n.node
         where m.node is null or m.expires_at < clock_timestamp() order by (m.node is null), n.node limit 1
       ), taken as (
         insert into baton.masters as m (node, instance, address, started_at, expires_at, id_floor)
         select node, $1, $2, clock_timestamp(), clock_timestamp() + $3::double precision * interval '1 ms', greatest(coalesce(id_floor, 0), $4::bigint) from free
         on conflict (node) do update set instance = excluded.instance, address = excluded.address, started_at = excluded.started_at,
           expires_at = excluded.expires_at, id_floor = greatest(m.id_floor, excluded.id_floor)
           where m.expires_at < clock_timestamp()
         returning node, id_floor
       )
       select taken.node, taken.id_floor from free left join taken on true`,
      [master.instance, master.address, master.ttlMs, master.idFloor],
    );
    if (!row) return null;
    if (row.node !== null) return { node: row.node as number, idFloor: row.id_floor as string };
  }
}

/** Renews; false when another life took the number over. Also counts the masters that live. */
export async function renewNode(
  sql: Sql,
  master: { node: number; instance: string; ttlMs: number; idFloor: string },
): Promise<{ held: boolean; living: number }> {
  const [row] = await sql.unsafe(
    `/* baton renew node */
     with renewed as (
       update baton.masters set expires_at = clock_timestamp() + $3::double precision * interval '1 ms', id_floor = greatest(id_floor, $4::bigint)
       where node = $1 and instance = $2 returning 1
     ) select exists (select from renewed) as held, (select count(*)::integer from baton.masters where expires_at > clock_timestamp()) as living`,
    [master.node, master.instance, master.ttlMs, master.idFloor],
    { prepare: true },
  );
  return { held: row!.held as boolean, living: row!.living as number };
}

/** Gives the number back. The row stays, for its floor. */
export async function releaseNode(
  sql: Sql,
  master: { node: number; instance: string; idFloor: string },
): Promise<void> {
  await sql.unsafe(
    'update baton.masters set expires_at = clock_timestamp(), id_floor = greatest(id_floor, $3::bigint) where node = $1 and instance = $2',
    [master.node, master.instance, master.idFloor],
  );
}
