import { createHash } from 'node:crypto';
import postgres from 'postgres';

/** Any number that no other program locks. */
const LOCK = 0x74656d70;

const made = new Map<string, Promise<string>>();

/**
 * The name of a migrated database on this server that others are made from: a copy costs a third of the migrations. Whoever asks
 * first makes it, once for each set of migrations; it stays on the server.
 */
export function migratedTemplate(adminUrl: string): Promise<string> {
  let name = made.get(adminUrl);
  if (name === undefined) {
    name = make(adminUrl);
    made.set(adminUrl, name);
  }
  return name;
}

/** What a migration writes once for each database: without it, copies would take each other's cursors and find an outage. */
export const OF_ITS_OWN = `update baton.event_log set log_id = replace(gen_random_uuid()::text, '-', '');
update baton.sweeps set last_at = clock_timestamp() where last_at > '-infinity';`;

async function make(adminUrl: string): Promise<string> {
  const [{ migrate, openSql }, { loadMigrations }] = await Promise.all([
    import('@baton/store'),
    import('@baton/store/node'),
  ]);
  const migrations = loadMigrations();
  const key = createHash('sha256').update(migrations.map(({ hash }) => hash).join());
  const name = `test_template_${key.digest('hex').slice(0, 16)}`;
  const admin = postgres(adminUrl, { max: 1, fetch_types: false, onnotice: () => {} });
  try {
    await admin.unsafe(`SELECT pg_advisory_lock(${LOCK})`); // the end of the session frees it
    const [there] = await admin.unsafe('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (there !== undefined) return name;
    const unfinished = `${name}_unfinished`;
    await admin.unsafe(`DROP DATABASE IF EXISTS ${unfinished} WITH (FORCE)`);
    await admin.unsafe(`CREATE DATABASE ${unfinished}`);
    const url = new URL(adminUrl);
    url.pathname = `/${unfinished}`;
    const inside = openSql(url.href, { max: 1 });
    try {
      await migrate(inside, migrations);
    } finally {
      await inside.end({ timeout: 5 });
    }
    // Nobody is to be in it while it is copied.
    await admin.unsafe(`ALTER DATABASE ${unfinished} WITH ALLOW_CONNECTIONS false`);
    await admin.unsafe(`ALTER DATABASE ${unfinished} RENAME TO ${name}`);
    return name;
  } finally {
    await admin.end({ timeout: 5 });
  }
}
