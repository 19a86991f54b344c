import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removePostgres, startPostgres, stopPostgres } from '@baton/postgres';
import postgres from 'postgres';
import { parentOf } from './cpu.ts';

/** The Postgres that is measured with. */
export interface BenchServer extends AsyncDisposable {
  readonly source: 'embedded' | 'yours';
  readonly version: string;
  /** Those that decide what a commit costs, and how much memory there is. */
  readonly settings: Readonly<Record<string, string>>;
  /** Null: on another machine, or not to be found; its CPU is not reported then. */
  readonly postmaster: number | null;
  /** pg_stat_statements can be asked. */
  readonly hasStatements: boolean;
  freshDatabase(): Promise<BenchDatabase>;
}

export interface BenchDatabase extends AsyncDisposable {
  readonly url: string;
  readonly sql: postgres.Sql;
}

const REPORTED = [
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'wal_sync_method',
  'wal_level',
  'shared_buffers',
  'max_wal_size',
  'checkpoint_timeout',
  'autovacuum_naptime',
  'track_io_timing',
];

/** An embedded server that promises what it acknowledges, in a directory that is removed at the end; or yours. */
export async function openServer(yourUrl: string | null): Promise<BenchServer> {
  if (yourUrl !== null) return describe('yours', yourUrl, async () => {});
  const home = await mkdtemp(join(tmpdir(), 'baton-bench-postgres-'));
  await chmod(home, 0o711); // as root, the server runs as another user, who has to pass
  const dataDir = join(home, 'data');
  const stop = async () => {
    await stopPostgres(dataDir, { mode: 'immediate' });
    await removePostgres(dataDir);
    await rm(home, { recursive: true, force: true });
  };
  try {
    const server = await startPostgres({ dataDir, port: 0, settings: { fsync: 'on', synchronous_commit: 'on' } });
    return await describe('embedded', server.url, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function describe(
  source: BenchServer['source'],
  adminUrl: string,
  stop: () => Promise<void>,
): Promise<BenchServer> {
  const admin = postgres(adminUrl, { max: 1, fetch_types: false, onnotice: () => {} });
  try {
    const rows = await admin<{ name: string; value: string }[]>`
      select name, current_setting(name) as value from pg_settings where name = any(${`{${REPORTED.join(',')}}`}::text[])`;
    const [about] = await admin<{ version: string; pid: number; statements: boolean }[]>`
      select current_setting('server_version') as version, pg_backend_pid() as pid,
             exists (select from pg_extension where extname = 'pg_stat_statements') as statements`;
    return {
      source,
      version: about!.version,
      settings: Object.fromEntries(rows.map((row) => [row.name, row.value])),
      postmaster: postmasterOf(about!.pid, new URL(adminUrl).hostname),
      hasStatements: about!.statements,
      freshDatabase: () => freshDatabase(admin, adminUrl, about!.statements),
      async [Symbol.asyncDispose]() {
        await admin.end({ timeout: 5 });
        await stop();
      },
    };
  } catch (error) {
    await admin.end({ timeout: 5 });
    await stop();
    throw error;
  }
}

async function freshDatabase(admin: postgres.Sql, adminUrl: string, statements: boolean): Promise<BenchDatabase> {
  const name = `baton_bench_${randomUUID().replaceAll('-', '')}`;
  await admin.unsafe(`create database ${name}`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  const sql = postgres(url.href, { max: 1, fetch_types: false, onnotice: () => {} });
  if (statements) await sql`create extension if not exists pg_stat_statements`;
  return {
    url: url.href,
    sql,
    async [Symbol.asyncDispose]() {
      await sql.end({ timeout: 5 });
      await admin.unsafe(`drop database if exists ${name} with (force)`);
    },
  };
}

/** A backend's parent is the postmaster, if the server is on this machine and not in a container of its own. */
function postmasterOf(backend: number, host: string): number | null {
  if (!['127.0.0.1', 'localhost', '[::1]'].includes(host)) return null;
  const parent = parentOf(backend);
  if (parent === undefined) return null;
  return readFileSync(`/proc/${parent}/comm`, 'utf8').startsWith('postgres') ? parent : null;
}
