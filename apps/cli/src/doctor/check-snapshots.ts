import postgres from 'postgres';
import { type Finding, ok, problem, skipped, wordsOf } from './finding.ts';

/** Statements of Baton end within 30 s; what is older is somebody else's, or forgotten. */
const LONG_MS = 60_000;

/**
 * Transactions that stay open. Postgres keeps every row that they might see: tables that churn grow, claims walk over what is gone,
 * and watches stop before what an open transaction might still write.
 * @param url of a role that may connect; empty: it is not known here
 */
export async function checkSnapshots(url: string, longMs: number = LONG_MS): Promise<Finding> {
  const check = 'open transactions';
  if (url === '') return skipped(check, 'neither DATABASE_URL nor a `baton up` of this home says where Postgres is');
  const sql = postgres(url, { max: 1, fetch_types: false, connect_timeout: 3, onnotice: () => {} });
  try {
    const [may] = await sql`select pg_has_role(current_user, 'pg_read_all_stats', 'usage') as see`;
    if (!may!.see)
      return skipped(check, `the role of this connection may not see those of others: grant pg_read_all_stats to it`);
    const [oldest] = await sql`
      select pid, coalesce(usename, '') as role, application_name as program, state, host(client_addr) as host, datname as database,
             extract(epoch from clock_timestamp() - xact_start)::float8 as seconds, count(*) over ()::int as all
      from pg_stat_activity
      where (backend_xmin is not null or backend_xid is not null) and backend_type = 'client backend' and pid <> pg_backend_pid()
        and xact_start < clock_timestamp() - ${longMs} * interval '1 ms'
      order by xact_start limit 1`;
    if (!oldest) return ok(check, `none is older than ${Math.round(longMs / 1_000)} s`);
    const program = oldest.program ? ` (${oldest.program})` : '';
    const more = oldest.all > 1 ? `, and ${oldest.all - 1} more` : '';
    return problem(
      check,
      `session ${oldest.pid} of role ${oldest.role}${program} in database ${oldest.database}, from ${oldest.host ?? 'this machine'}, ` +
        `has had a transaction open for ${Math.round(oldest.seconds)} s, ${oldest.state}${more}: deleted rows stay, claims slow down, watches wait`,
      `end its transaction, or the session: select pg_terminate_backend(${oldest.pid})`,
    );
  } catch (error) {
    return skipped(check, `Postgres does not answer: ${wordsOf(error)}`);
  } finally {
    await sql.end({ timeout: 1 });
  }
}
