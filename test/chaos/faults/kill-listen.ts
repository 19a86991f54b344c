import type { FaultKind } from './fault.ts';

/** The sessions by which masters hear of each other's hints. */
export const killListen: FaultKind = {
  name: 'kill_listen',
  cards: 1,
  optional: true,
  async fire({ cluster }) {
    const rows = await cluster.sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name like 'baton%' and (query ilike 'listen %' or application_name like '%listen%')`;
    return rows.length > 0 ? `${rows.length} of them` : undefined;
  },
};
