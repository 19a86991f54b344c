import { setTimeout as sleep } from 'node:timers/promises';
import type postgres from 'postgres';
import { nowMs } from './recorder.ts';

export interface OpenWork {
  readonly ready: number;
  readonly waiting: number;
  readonly leases: number;
  readonly runs: number;
  readonly advances: number;
}

/** What is not over yet. */
export async function openWork(sql: postgres.Sql): Promise<OpenWork> {
  const [row] = await sql`
    select (select count(*)::int from baton.ready) as ready, (select count(*)::int from baton.waiting) as waiting,
      (select count(*)::int from baton.leases) as leases, (select count(*)::int from baton.advances) as advances,
      (select count(*)::int from baton.runs where state in ('pending', 'running', 'waiting')) as runs`;
  return row as unknown as OpenWork;
}

/** Waits until nothing is open. Gives the time when that was seen, or undefined after the limit. */
export async function waitUntilSettled(
  sql: postgres.Sql,
  limitMs: number,
  log: (line: string) => void,
): Promise<number | undefined> {
  const until = performance.now() + limitMs;
  for (let looks = 0; ; looks++) {
    const open = await openWork(sql).catch(() => undefined);
    if (open && Object.values(open).every((count) => count === 0)) return nowMs();
    if (performance.now() > until) return undefined;
    if (looks % 25 === 0) log(`settling: ${JSON.stringify(open)}, ${await openKinds(sql).catch(() => '')}`);
    await sleep(200);
  }
}

/** What is open, by kind. */
async function openKinds(sql: postgres.Sql): Promise<string> {
  const rows = await sql`
    select r.kind, o.place, count(*)::int as count from (
      select lane_id, 'ready' as place from baton.ready union all select lane_id, 'waiting' from baton.waiting
      union all select lane_id, 'leased' from baton.leases) o
    join baton.lanes l on l.id = o.lane_id join baton.routes r on r.id = l.route_id group by 1, 2 order by 3 desc`;
  return rows.map(({ kind, place, count }) => `${count} ${kind} ${place}`).join(', ');
}
