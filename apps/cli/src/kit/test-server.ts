import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startPostgres } from '@baton/postgres';
import { migrate, openSql, type Sql } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import { CLOCK_SCHEMA, CLOCK_SEARCH_PATH } from './clock-schema.ts';
import { testServerUrl } from './config.ts';

/** A PostgreSQL for tests, with nothing to install. */
export interface TestServer extends AsyncDisposable {
  /** Superuser's. */
  readonly url: string;
  /** Stops it and removes its data. May be called twice. */
  stop(): Promise<void>;
}

/** What is stored need not survive a crash of the machine. */
const SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
  wal_level: 'minimal',
  max_wal_senders: 0,
  max_connections: 400,
  shared_buffers: '64MB',
} as const;

/** Ends the server and removes its files as soon as its input ends: when it is told to, or whatever way its parent ended. */
const GUARD = `read -r _; kill -QUIT "$1" 2>/dev/null; while kill -0 "$1" 2>/dev/null; do sleep 0.02; done; rm -rf "$2"`;

/**
 * Starts a PostgreSQL that ends with this process, also when that is killed. For the set-up of a whole test run; else each process that
 * starts a kit starts one for all of its kits. In 1 to 2 s.
 *
 * @throws EmbeddedPostgresError
 */
export async function startTestServer(): Promise<TestServer> {
  const home = await mkdtemp(join(tmpdir(), 'baton-test-server-'));
  await chmod(home, 0o711); // as root, the server runs as another user, who has to pass
  const server = await startPostgres({ dataDir: join(home, 'data'), port: 0, settings: SETTINGS });
  const guard = spawn('/bin/sh', ['-c', GUARD, 'sh', String(server.pid), home], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
  });
  const ended = once(guard, 'close');
  // Neither keeps this process from ending.
  guard.unref();
  (guard.stdin as unknown as { unref(): void }).unref();
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      guard.ref();
      guard.stdin.end();
      await ended;
    })();
    return stopping;
  };
  return { url: server.url, stop, [Symbol.asyncDispose]: stop };
}

let shared: Promise<TestServer> | undefined;
const templates = new Map<string, Promise<string>>();

/** A database of a kit's own, migrated, with a clock that can be moved. */
export interface KitDatabase {
  readonly url: string;
  drop(): Promise<void>;
}

/** On the server of `url`, of BATON_TEST_DATABASE_URL, or of this process, which the first call starts. */
export async function makeKitDatabase(url: string | undefined): Promise<KitDatabase> {
  const given = url ?? testServerUrl();
  if (given !== undefined) return copyTemplate(given);
  const ready = spare;
  spare = undefined;
  return (await ready) ?? copyTemplate((await ownServer()).url);
}

let spare: Promise<KitDatabase | undefined> | undefined;

/** Makes a database for the next kit while this one's test runs, on a server that ends with this process. */
export function makeSpareDatabase(): void {
  if (spare !== undefined || shared === undefined) return;
  // Whoever needs one and finds none makes it, and hears why it cannot be made.
  spare = shared.then(({ url }) => copyTemplate(url)).catch(() => undefined);
}

async function copyTemplate(serverUrl: string): Promise<KitDatabase> {
  let template = templates.get(serverUrl);
  if (template === undefined) {
    template = makeTemplate(serverUrl);
    templates.set(serverUrl, template);
    template.catch(() => templates.delete(serverUrl));
  }
  const from = await template;
  const name = `baton_kit_${randomUUID().replaceAll('-', '')}`;
  await asAdmin(serverUrl, async (sql) => {
    // A copy of files: 50 ms, where writing 16 MB of log takes as long and more.
    await sql.unsafe(`create database ${name} template ${from} strategy file_copy`);
    await sql.unsafe(`alter database ${name} set search_path = ${CLOCK_SEARCH_PATH}`);
  });
  return {
    url: urlOf(serverUrl, name),
    drop: () => asAdmin(serverUrl, (sql) => sql.unsafe(`drop database if exists ${name} with (force)`).then(() => {})),
  };
}

async function ownServer(): Promise<TestServer> {
  shared ??= startTestServer();
  shared.catch(() => {
    shared = undefined;
  });
  return shared;
}

/** Any number that all kits agree on. */
const TEMPLATE_LOCK = 0x62746b74;

/** Made once for each server and state of the schema, however many processes ask for it. Its name. */
async function makeTemplate(serverUrl: string): Promise<string> {
  const migrations = loadMigrations();
  const last = migrations.at(-1)!;
  const name = `baton_kit_template_${await digest(CLOCK_SCHEMA + migrations.map((m) => m.hash).join())}`;
  await asAdmin(serverUrl, async (sql) => {
    await sql.unsafe(`select pg_advisory_lock(${TEMPLATE_LOCK})`);
    const [there] = await sql.unsafe('select 1 from pg_database where datname = $1', [name]);
    if (there) return;
    const unfinished = `${name}_${last.version}`;
    await sql.unsafe(`drop database if exists ${unfinished} with (force)`);
    await sql.unsafe(`create database ${unfinished}`);
    await sql.unsafe(`alter database ${unfinished} set search_path = ${CLOCK_SEARCH_PATH}`);
    const inside = openSql(urlOf(serverUrl, unfinished), { max: 1, applicationName: 'baton kit' });
    try {
      // Before the tables, so that their defaults ask this clock.
      await inside.unsafe(CLOCK_SCHEMA);
      await migrate(inside, migrations);
    } finally {
      await inside.end({ timeout: 5 });
    }
    // Nobody is to be in it while it is copied, autovacuum included.
    await sql.unsafe(`alter database ${unfinished} with allow_connections false`);
    await sql.unsafe(`alter database ${unfinished} rename to ${name}`);
  });
  return name;
}

async function digest(text: string): Promise<string> {
  const { createHash } = await import('node:crypto');
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

async function asAdmin<T>(serverUrl: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = openSql(serverUrl, { max: 1, applicationName: 'baton kit', lockTimeoutMs: 60_000 });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function urlOf(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}
