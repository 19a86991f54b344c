import { hostname } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { inspectPostgres, stopPostgres } from '@baton/postgres';
import { closeSession, openSql, type Sql } from '@baton/store';
import { postgresDataDir } from '../config.ts';
import { isAlive } from '../up/process-identity.ts';
import { readUpState } from '../up/up-file.ts';

/**
 * Ends the sessions of standalone processes of this machine that died without a word (kill -9), so that what they ran begins again now and
 * not when their lease time is over. Only for the embedded Postgres of a home: whoever has used it was on this machine. The next sweep
 * takes the leases back.
 *
 * @returns how many there were
 */
export async function endLeftBehind(databaseUrl: string): Promise<number> {
  return withSession(databaseUrl, async (sql) => {
    const rows = await sql.unsafe(
      `select s.id::text as id, (w.capabilities ->> 'pid')::integer as pid from baton.sessions s join baton.workers w on w.id = s.worker_id
       where s.state <> 'closed' and w.name = 'standalone-' || (w.capabilities ->> 'pid') and w.capabilities ->> 'hostname' = $1`,
      [hostname()],
    );
    let ended = 0;
    for (const { id, pid } of rows) {
      if (pid === process.pid || isAlive({ pid: pid as number })) continue;
      if (!(await closeSession(sql, id as string, 'its process is gone'))) continue;
      await sql.unsafe(
        `update baton.sessions set expires_at = clock_timestamp() - interval '1 ms' where id = $1 and state = 'closed'`,
        [id as string],
      );
      ended++;
    }
    return ended;
  });
}

/** So long connections of the master that has just ended may take to be gone. */
const LINGER_MS = 1_000;

/**
 * Stops the Postgres of a home that a standalone process found running, because the one before it was killed: unless a `baton up` has it,
 * or anybody is connected to it.
 */
export async function stopLeftPostgres(home: string, databaseUrl: string): Promise<void> {
  const up = readUpState(home);
  if (up !== undefined && isAlive(up)) return;
  const dataDir = postgresDataDir(home);
  if ((await inspectPostgres(dataDir)).state !== 'running') return;
  const isInUse = await withSession(databaseUrl, async (sql) => {
    const until = performance.now() + LINGER_MS;
    for (;;) {
      const [row] = await sql.unsafe(
        `select count(*)::integer as others from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`,
      );
      if (row!.others === 0) return false;
      if (performance.now() > until) return true;
      await pause(50);
    }
  });
  if (!isInUse) await stopPostgres(dataDir);
}

async function withSession<T>(databaseUrl: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = openSql(databaseUrl, { max: 1, applicationName: 'baton standalone' });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}
