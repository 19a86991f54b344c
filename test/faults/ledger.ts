import postgres from 'postgres';

export interface LedgerAttempt {
  readonly epoch: number;
  readonly attempt: number;
  readonly state: 'succeeded' | 'failed' | 'cancelled' | 'lost' | 'returned';
  readonly worker: string;
  readonly sessionId: string;
  readonly grantedAt: Date;
  readonly endedAt: Date;
  readonly failureType: string | null;
  readonly failure: string | null;
}

export interface LedgerTask {
  readonly id: string;
  /** Of the end; null while there is none. */
  readonly state: 'succeeded' | 'failed' | 'cancelled' | null;
  readonly epoch: number;
  readonly attempt: number;
  readonly attempts: readonly LedgerAttempt[];
}

/** A look past the master, straight into Postgres. */
export interface Ledger extends AsyncDisposable {
  readonly sql: postgres.Sql;
  tasks(): Promise<Map<string, LedgerTask>>;
  /** How many tasks have ended. */
  ended(): Promise<number>;
  /**
   * What is wrong with the history: an acknowledged task that is missing or has not ended, a task in two places, more than
   * one end, epochs with a gap, an end of another epoch than the last one granted, a grant before the end of the one before.
   */
  problems(acknowledged: readonly string[]): Promise<string[]>;
  /** Ends the lease time of a worker that was killed: as if that time had gone by. Living workers keep long leases, however loaded this machine is. */
  expire(worker: string): Promise<void>;
}

export function openLedger(databaseUrl: string): Ledger {
  const sql = postgres(databaseUrl, { max: 1, fetch_types: false, onnotice: () => {} });
  async function tasks(): Promise<Map<string, LedgerTask>> {
    const found = new Map<string, LedgerTask & { attempts: LedgerAttempt[] }>();
    const rows = await sql`
      select t.id, o.state, coalesce(o.epoch, 0) as epoch, coalesce(o.attempt, 0) as attempt
      from baton.tasks t left join baton.outcomes o on o.task_id = t.id order by t.id`;
    for (const row of rows)
      found.set(row.id, { id: row.id, state: row.state, epoch: row.epoch, attempt: row.attempt, attempts: [] });
    const attempts = await sql`select * from baton.v_attempts order by task_id, epoch`;
    for (const row of attempts)
      found.get(row.task_id)!.attempts.push({
        epoch: row.epoch,
        attempt: row.attempt,
        state: row.state,
        worker: row.worker,
        sessionId: row.session_id,
        grantedAt: row.granted_at,
        endedAt: row.ended_at,
        failureType: row.failure_type,
        failure: row.failure,
      });
    return found;
  }
  return {
    sql,
    tasks,
    async ended() {
      const [row] = await sql`select count(*)::int as count from baton.outcomes`;
      return row!.count;
    },
    async expire(worker) {
      await sql`
        update baton.sessions s set expires_at = clock_timestamp(), renewed_at = s.renewed_at - (s.expires_at - clock_timestamp())
        from baton.workers w where w.name = ${worker} and s.worker_id = w.id and s.state <> 'closed'`;
    },
    async problems(acknowledged) {
      const problems: string[] = [];
      const all = await tasks();
      for (const id of acknowledged) if (!all.has(id)) problems.push(`task ${id} was acknowledged and is not there`);
      for (const task of all.values()) problems.push(...problemsOf(task));
      const places = await sql`
        select task_id, count(*)::int as count from (
          select task_id from baton.ready union all select task_id from baton.waiting union all
          select task_id from baton.leases union all select task_id from baton.outcomes) p
        group by task_id having count(*) > 1`;
      for (const place of places) problems.push(`task ${place.task_id} is in ${place.count} places`);
      const ends = await sql`
        select t.id, count(e.task_id)::int as count from baton.tasks t left join (
          select unnest(task_ids) as task_id, unnest(types) as type from baton.events) e
          on e.task_id = t.id and e.type in (5, 6, 7)
        group by t.id having count(e.task_id) <> 1`;
      for (const end of ends) problems.push(`task ${end.id} has ${end.count} events that say that it ended`);
      return problems;
    },
    [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }),
  };
}

function problemsOf({ id, state, epoch, attempts }: LedgerTask): string[] {
  if (state === null) return [`task ${id} has not ended`];
  const problems: string[] = [];
  if (attempts.some((each, i) => each.epoch !== i + 1))
    problems.push(`task ${id} has the epochs ${attempts.map((each) => each.epoch)}`);
  if (epoch !== attempts.length) problems.push(`task ${id} ended in epoch ${epoch} of ${attempts.length}`);
  const last = attempts.at(-1);
  if (state === 'succeeded' && last?.state !== 'succeeded')
    problems.push(`task ${id} succeeded, its last attempt ${last?.state}`);
  const early = attempts.slice(0, -1).filter((each) => each.state === 'succeeded' || each.state === 'cancelled');
  if (early.length > 0) problems.push(`task ${id} went on after it had ended`);
  attempts.slice(1).forEach((each, i) => {
    if (each.grantedAt < attempts[i]!.endedAt)
      problems.push(`task ${id}: epoch ${each.epoch} was granted before epoch ${each.epoch - 1} ended`);
  });
  return problems;
}
