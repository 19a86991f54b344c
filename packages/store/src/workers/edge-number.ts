import type { Sql } from '../database/connection.ts';

/** Edge numbers are below this: 14 bits. */
export const EDGE_NUMBERS = 1 << 14;

/**
 * Draws what makes the ids of one request at the edge unique, where no node number can be leased: Postgres's clock and the low bits
 * of a transaction's own number. The same number comes again after 16 384 transactions of the whole server; it would have to be drawn
 * within the milliseconds that a request's ids span (one for every 16 ids). The transaction writes nothing, so it waits for no disk.
 *
 * Random bits would do worse: 18 of them meet every few minutes at 1 000 submits a second.
 */
export async function drawEdgeNumber(sql: Sql): Promise<{ number: number; nowMs: number }> {
  const [row] = await sql.unsafe(
    `/* baton edge number */
     select (pg_current_xact_id()::text::bigint & ${EDGE_NUMBERS - 1})::integer as number,
            floor(extract(epoch from clock_timestamp()) * 1000)::text as now_ms`,
    [],
    { prepare: true },
  );
  return { number: row!.number as number, nowMs: Number(row!.now_ms) };
}
