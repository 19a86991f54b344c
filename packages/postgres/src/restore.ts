import { copyFile, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { chooseAccount, giveTree, makePassable } from './account.ts';
import { type BackupManifest, extractArchive } from './archive.ts';
import { syncDirectory } from './backup.ts';
import { POSTGRES_MAJOR, prepareBinaries } from './binaries.ts';
import { markPasswordReset, syncCluster } from './cluster.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { inspectPostgres } from './inspect.ts';
import { copyRoot, isEmpty, newName, placesOf, realDataDir, replacedName, settle } from './location.ts';
import { withLock } from './lock.ts';

export interface RestoreOptions {
  readonly file: string;
  readonly dataDir: string;
  /** Replace data that is there. Default false. Even then a running server is never replaced. */
  readonly force?: boolean;
  readonly fallbackRoots?: readonly string[];
  readonly log?: (message: string, fields?: Record<string, unknown>) => void;
}

/**
 * Puts a backup's data into `dataDir`, for the next start. The archive is unpacked and verified beside it first; until
 * then nothing that is there is touched. The next start sets the superuser's password to the one kept beside the data
 * (a backup carries none).
 * @throws EmbeddedPostgresError RUNNING, NOT_EMPTY, BACKUP_INVALID, VERSION_MISMATCH, RESTORE_FAILED
 */
export async function restorePostgres(options: RestoreOptions): Promise<BackupManifest> {
  const places = placesOf(options.dataDir);
  const file = resolve(options.file);
  await makePassable(dirname(places.requested));
  return withLock(places.lockFile, 60_000, async () => {
    const found = await inspectPostgres(places.requested);
    if (found.state === 'running') {
      throw new EmbeddedPostgresError('RUNNING', `PostgreSQL (pid ${found.pid}) runs on ${places.requested}`, {
        hint: 'stop it first',
      });
    }
    const before = await chooseAccount(await realDataDir(places.requested));
    const dataDir = await settle(places.requested, before, options);
    const account = await chooseAccount(dataDir);
    const empty = await isEmpty(dataDir);
    if (!empty && options.force !== true) {
      throw new EmbeddedPostgresError('NOT_EMPTY', `${places.requested} is not empty`, {
        hint: 'restore into another directory, or with force to replace what is there',
      });
    }
    const copyInto = () => copyRoot(account, places, options.fallbackRoots);
    const binaries = await prepareBinaries(account, { copyInto, log: options.log });
    const fresh = newName(dataDir);
    await mkdir(fresh, { mode: 0o700 });
    try {
      let manifest: BackupManifest | undefined;
      await extractArchive(file, fresh, (read) => {
        manifest = read;
        if (read.postgresMajor === POSTGRES_MAJOR) return;
        const message = `${file} is of PostgreSQL ${read.postgresMajor}, this is ${POSTGRES_MAJOR}`;
        throw new EmbeddedPostgresError('VERSION_MISMATCH', message, {
          hint: 'restore it with the Baton that made it',
        });
      });
      if (manifest === undefined) throw new EmbeddedPostgresError('BACKUP_INVALID', `${file} has no manifest`);
      await markPasswordReset(fresh);
      if (!empty) await keepPort(dataDir, fresh);
      giveTree(fresh, account);
      await syncCluster(fresh, account, binaries);
      await swap(fresh, dataDir, empty);
      return manifest;
    } catch (cause) {
      if (cause instanceof EmbeddedPostgresError) throw cause;
      throw new EmbeddedPostgresError('RESTORE_FAILED', `nothing was restored: ${(cause as Error).message}`, { cause });
    } finally {
      await rm(fresh, { recursive: true, force: true });
    }
  });
}

/** The port of the replaced server's last start is in this file: its URL stays good. */
async function keepPort(from: string, to: string): Promise<void> {
  await copyFile(join(from, 'postmaster.opts'), join(to, 'postmaster.opts')).catch(() => {});
}

/** Between the two renames a crash leaves no data directory; the next start puts the old one back. */
async function swap(fresh: string, dataDir: string, empty: boolean): Promise<void> {
  const replaced = replacedName(dataDir);
  if (empty) await rm(dataDir, { recursive: true, force: true });
  else await rename(dataDir, replaced);
  await rename(fresh, dataDir);
  await syncDirectory(dirname(dataDir));
  if (!empty) await rm(replaced, { recursive: true, force: true });
}
