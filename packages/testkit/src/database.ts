import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Settings, type StopMode, startPostgres, stopPostgres } from '@baton/postgres';
import postgres from 'postgres';
import { migratedTemplate, OF_ITS_OWN } from './migrated-template.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Superuser's URL of the server that the whole test run shares; provided by test/setup/postgres.ts. */
    postgresUrl: string;
  }
}

/** A database of a test's own. `await using database = await testDatabase()` drops it at the end of the block. */
export interface TestDatabase extends AsyncDisposable {
  /** Superuser's URL of the database. */
  readonly url: string;
  /** Sends every session away and drops it. May be called twice. */
  drop(): Promise<void>;
}

/** There is no server to make a test's database on. */
export class NoTestServerError extends Error {
  override readonly name = 'NoTestServerError';
}

export interface TestDatabaseOptions {
  /** The server. Default: what the vitest run provides as `postgresUrl`, else the environment's BATON_TEST_DATABASE_URL. */
  readonly adminUrl?: string;
  /** With Baton's schema in it, as if it had just been migrated; default false: empty. */
  readonly migrated?: boolean;
}

/**
 * Makes a database with a name of its own on the shared server.
 * @throws NoTestServerError
 */
export async function testDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const adminUrl = options.adminUrl ?? (await providedUrl()) ?? process.env.BATON_TEST_DATABASE_URL;
  if (!adminUrl) {
    throw new NoTestServerError('no test server: run under vitest with test/setup, or set BATON_TEST_DATABASE_URL');
  }
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const template = options.migrated ? ` TEMPLATE ${await migratedTemplate(adminUrl)}` : '';
  await asAdmin(adminUrl, `CREATE DATABASE ${name}${template}`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  if (options.migrated) await asAdmin(url.href, OF_ITS_OWN);
  const drop = () => asAdmin(adminUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  return { url: url.href, drop, [Symbol.asyncDispose]: drop };
}

async function asAdmin(adminUrl: string, statement: string): Promise<void> {
  const sql = postgres(adminUrl, { max: 1, fetch_types: false, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** Outside of a vitest worker, importing vitest or asking it fails; then there is nothing provided. */
async function providedUrl(): Promise<string | undefined> {
  try {
    const { inject } = await import('vitest');
    return inject('postgresUrl');
  } catch {
    return undefined;
  }
}

export interface TestPostgres {
  /** Superuser's URL. */
  readonly url: string;
  readonly dataDir: string;
  /** Of the postmaster that runs now, or ran last. */
  readonly pid: number;
  /** What the server wrote, all of its starts. */
  readonly logFile: string;
  /**
   * Stops it (default in immediate mode: as a crash, with recovery at the start), leaves it down for `downMs` (default 0),
   * and starts it on the same port. Resolves when it answers.
   */
  restart(options?: { readonly mode?: StopMode; readonly downMs?: number }): Promise<void>;
  /** Stops the server and removes everything of it. */
  stop(): Promise<void>;
}

const DIRECTORY_PREFIX = 'baton-test-postgres-';

/** A file system in memory, on Linux. */
const MEMORY = '/dev/shm';
const ROOM_BYTES = 4 * 2 ** 30;

/**
 * Where servers keep their data. A database is 300 files: to make and drop one cost 0.4 to 0.5 s of CPU on a disk (nearly all in
 * the kernel) and 0.03 s in memory, and a run makes hundreds.
 */
async function placeOfServers(): Promise<string> {
  const room = await statfs(MEMORY).catch(() => undefined);
  const isRoomy = room !== undefined && room.bavail * room.bsize > ROOM_BYTES && freemem() > ROOM_BYTES;
  return isRoomy ? MEMORY : tmpdir();
}

/**
 * Starts an embedded PostgreSQL in a temporary directory, in memory where there is room. Without fsync (a crash of the machine would lose a test's
 * data, a crash of the server does not); `settings` go over that.
 */
export async function startTestPostgres(options: { settings?: Settings } = {}): Promise<TestPostgres> {
  await removeAbandoned();
  const home = await mkdtemp(join(await placeOfServers(), `${DIRECTORY_PREFIX}${process.pid}-`));
  await chmod(home, 0o711); // as root, the server runs as another user, who has to pass
  const dataDir = join(home, 'data');
  const settings = {
    max_connections: 400,
    fsync: 'off',
    full_page_writes: 'off',
    max_wal_size: '256MB',
    ...options.settings,
  };
  let server = await startPostgres({ dataDir, port: 0, settings });
  const { url, port, logFile } = server;
  const stop = () => discard(home);
  return {
    url,
    dataDir: server.dataDir,
    get pid() {
      return server.pid;
    },
    logFile,
    async restart({ mode = 'immediate', downMs = 0 } = {}) {
      await server.stop({ mode });
      if (downMs > 0) await sleep(downMs);
      server = await startPostgres({ dataDir, port, settings });
    },
    stop,
  };
}

async function discard(home: string): Promise<void> {
  await stopPostgres(join(home, 'data'), { mode: 'immediate' });
  await rm(home, { recursive: true, force: true });
}

/** Servers outlive whoever started them: those of test runs that were killed are stopped here. */
async function removeAbandoned(): Promise<void> {
  for (const place of [tmpdir(), MEMORY]) {
    for (const name of await readdir(place).catch(() => [])) {
      const pid = Number(new RegExp(`^${DIRECTORY_PREFIX}(\\d+)-`).exec(name)?.[1]);
      if (!pid || isAlive(pid)) continue;
      await discard(join(place, name)).catch(() => {}); // another user's, or another run is at it
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}
