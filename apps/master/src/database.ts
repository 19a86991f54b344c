import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type EmbeddedPostgres, startPostgres } from '@baton/postgres';
import { migrate, openSql } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import type { Logger } from '@baton/telemetry';

export interface Database {
  url: string;
  /** The embedded server, if it is ours. */
  embedded: EmbeddedPostgres | null;
  schemaVersion: number;
}

/** Where the embedded Postgres of an installation keeps its data. */
export function postgresDataDir(home: string): string {
  return join(home, 'postgres', 'data');
}

/** The database of this master, migrated: yours if there is a URL, the embedded one otherwise. */
export async function openDatabase(databaseUrl: string | null, home: string, log: Logger): Promise<Database> {
  let embedded: EmbeddedPostgres | null = null;
  if (databaseUrl === null) {
    mkdirSync(home, { recursive: true, mode: 0o755 });
    embedded = await startPostgres({
      dataDir: postgresDataDir(home),
      log: (message, fields) => log.info(message, fields),
    });
    log.info(embedded.adopted ? 'embedded Postgres joined' : 'embedded Postgres started', {
      port: embedded.port,
      postgres_pid: embedded.pid,
    });
  }
  const url = databaseUrl ?? embedded!.url;
  const sql = openSql(url, { max: 1, applicationName: 'baton migrate' });
  try {
    const { applied, version } = await migrate(sql, loadMigrations());
    if (applied.length > 0) log.info('schema migrated', { applied: applied.join(','), version });
    return { url, embedded, schemaVersion: version };
  } finally {
    await sql.end({ timeout: 5 });
  }
}
