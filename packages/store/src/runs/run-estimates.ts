import type { Sql } from '../database/connection.ts';

/** What earlier runs of a workflow took, those that succeeded. */
export interface RunTimes {
  /** Median from start to end, ms, of the newest runs of this version; null: there are fewer than five. */
  runMs: number | null;
  /** By node id the median, ms, in the newest runs of any version. */
  nodeMs: Map<string, number>;
}

/** @param runs how many of the newest are looked at */
export async function readRunTimes(
  sql: Sql,
  workflow: { namespaceId: number; name: string; version: number },
  runs: number,
): Promise<RunTimes> {
  const rows = await sql.unsafe(
    `/* baton run times */
     with newest as materialized (
       select r.id, r.workflow_version, r.execution, extract(epoch from r.ended_at - r.started_at)::double precision * 1000 as ms from baton.runs r
       where r.namespace_id = $1 and r.workflow_name = $2 and r.state = 'succeeded' and r.form = 'graph' order by r.id desc limit $4
     )
     select null as node_id, percentile_cont(0.5) within group (order by ms) as ms from newest
     where workflow_version = $3 and execution = 1 having count(*) >= 5
     union all
     select n.node_id, percentile_cont(0.5) within group (order by extract(epoch from n.ended_at - n.started_at)::double precision * 1000)
     from newest r join baton.run_nodes n on n.run_id = r.id
     where n.state = 'succeeded' and not n.cached and n.started_at is not null and n.ended_at is not null group by n.node_id`,
    [workflow.namespaceId, workflow.name, workflow.version, runs],
    { prepare: true },
  );
  const times: RunTimes = { runMs: null, nodeMs: new Map() };
  for (const row of rows) {
    if (row.node_id === null) times.runMs = row.ms as number;
    else times.nodeMs.set(row.node_id as string, row.ms as number);
  }
  return times;
}
