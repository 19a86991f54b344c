import { rm, rmdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';
import { inspectPostgres } from './inspect.ts';
import { placesOf, realDataDir } from './location.ts';
import { withLock } from './lock.ts';

/**
 * Removes a cluster for good: the data, wherever it lies, and what was kept beside it. The lock file stays (0 bytes): whoever
 * waits for it would otherwise hold a lock that nobody else sees.
 * @throws EmbeddedPostgresError RUNNING while a server works on it
 */
export async function removePostgres(dataDir: string): Promise<void> {
  const { requested, passwordFile, logFile, lockFile } = placesOf(dataDir);
  await withLock(lockFile, 60_000, async () => {
    const found = await inspectPostgres(requested);
    if (found.state === 'running') {
      throw new EmbeddedPostgresError('RUNNING', `PostgreSQL (pid ${found.pid}) runs on ${requested}`, {
        hint: 'stop it first',
      });
    }
    const real = await realDataDir(requested);
    await rm(real, { recursive: true, force: true });
    if (/^data-[0-9a-f-]{36}$/.test(basename(dirname(real)))) await removeIfEmpty(dirname(real));
    await rm(requested, { recursive: true, force: true });
    for (const file of [passwordFile, logFile, `${logFile}.1`]) await rm(file, { force: true });
  });
}

async function removeIfEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error) => {
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'ENOENT') throw error;
  });
}
