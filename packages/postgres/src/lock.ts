import { setTimeout as sleep } from 'node:timers/promises';
import { EmbeddedPostgresError } from './errors.ts';

/**
 * Runs `body` while holding the lock of one data directory, against other processes and against this one. The lock
 * is the kernel's (SQLite's exclusive file lock), so it is gone the moment its holder is, however it died; a file
 * made with O_EXCL would need a guess about who is alive, and taking over a stale one races.
 * @throws EmbeddedPostgresError LOCK_TIMEOUT, NO_PERMISSION
 */
export async function withLock<T>(lockFile: string, timeoutMs: number, body: () => Promise<T>): Promise<T> {
  const { DatabaseSync } = await loadSqlite();
  const database = open(() => new DatabaseSync(lockFile, { timeout: 0 }), lockFile);
  try {
    const deadline = performance.now() + timeoutMs;
    while (!tryLock(database)) {
      if (performance.now() > deadline) {
        throw new EmbeddedPostgresError('LOCK_TIMEOUT', `${lockFile} is held by another process for ${timeoutMs} ms`, {
          hint: 'another start, stop, backup or restore of the same directory is at work: wait for it',
        });
      }
      await sleep(20 + Math.random() * 20);
    }
    return await body();
  } finally {
    database.close();
  }
}

type Sqlite = typeof import('node:sqlite');

/** Node 22 prints a warning when SQLite is loaded; that is no news to somebody who starts a task queue. */
async function loadSqlite(): Promise<Sqlite> {
  const { emitWarning } = process;
  process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
    if (!String(warning).includes('SQLite')) Reflect.apply(emitWarning, process, [warning, ...rest]);
  }) as typeof emitWarning;
  try {
    return await import('node:sqlite');
  } finally {
    process.emitWarning = emitWarning;
  }
}

function open<T>(make: () => T, lockFile: string): T {
  try {
    return make();
  } catch (cause) {
    throw noPermission(lockFile, cause);
  }
}

function tryLock(database: import('node:sqlite').DatabaseSync): boolean {
  try {
    // The journal in memory: nothing is ever written, and no second file appears.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    return true;
  } catch (error) {
    const code = (error as { errcode?: number }).errcode;
    if (code !== undefined && (code & 0xff) === 5) return false; // SQLITE_BUSY
    throw noPermission('the lock file', error);
  }
}

function noPermission(lockFile: string, cause: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError('NO_PERMISSION', `cannot lock ${lockFile}: ${(cause as Error).message}`, {
    hint: 'the directory belongs to another user, or the disk is read-only or full',
    cause,
  });
}
