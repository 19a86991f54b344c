import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import type { FaultKind } from './fault.ts';

/** A reader that stays in its transaction: nothing that died since can be cleaned up, and claims walk over it. */
export const holdSnapshot: FaultKind = {
  name: 'hold_snapshot',
  cards: 1,
  async fire({ cluster }, random) {
    const ms = random.whole(3_000, 9_000);
    const sql = postgres(cluster.postgres.url, { max: 1, fetch_types: false, onnotice: () => {} });
    try {
      await sql.unsafe('begin isolation level repeatable read');
      await sql`select count(*) from baton.tasks`;
      await sleep(ms);
      await sql.unsafe('commit');
    } finally {
      await sql.end({ timeout: 1 });
    }
    return `for ${ms} ms`;
  },
};
