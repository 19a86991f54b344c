import type { Sql } from '../database/connection.ts';

/** A worker that may be granted work now. */
export interface Machine {
  sessionId: string;
  namespaceId: number;
  workerId: number;
  workerName: string;
  capabilities: Record<string, unknown>;
}

/** Living workers of a namespace that do not drain, held back by their breakers or not, by name. */
export async function livingMachines(sql: Sql, namespaceId: number): Promise<Machine[]> {
  const rows = await sql.unsafe(
    `/* baton living machines */
     select s.id, w.id as worker_id, w.name, w.capabilities from baton.sessions s join baton.workers w on w.id = s.worker_id
     where s.namespace_id = $1 and s.state = 'active' and s.expires_at > clock_timestamp() order by w.name`,
    [namespaceId],
    { prepare: true },
  );
  return rows.map((r) => ({
    sessionId: r.id as string,
    namespaceId,
    workerId: r.worker_id as number,
    workerName: r.name as string,
    capabilities: r.capabilities as Record<string, unknown>,
  }));
}
