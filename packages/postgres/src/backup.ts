import { randomUUID } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ArchiveWriter, type BackupManifest, FORMAT_VERSION, readManifest } from './archive.ts';
import { RESET_PASSWORD_MARKER } from './cluster.ts';
import { withSession } from './connection.ts';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';
import { inspectPostgres } from './inspect.ts';
import { placesOf } from './location.ts';
import { withLock } from './lock.ts';
import { readPassword } from './password.ts';

export type { BackupManifest } from './archive.ts';

export interface BackupOptions {
  readonly dataDir: string;
  /** The .tar.gz to write (mode 0600, by temporary file and rename); an older one of that name is replaced. */
  readonly file: string;
}

export interface BackupSummary extends BackupManifest {
  readonly file: string;
  readonly files: number;
  /** Before compression. */
  readonly bytes: number;
}

/** Directories whose contents a server makes anew, and files that belong to the running process. */
const EMPTIED = new Set([
  ...['pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots', 'pg_stat_tmp', 'pg_subtrans'],
]);
const LEFT_OUT = new Set([
  'postmaster.pid',
  'postmaster.opts',
  'backup_label',
  'tablespace_map',
  RESET_PASSWORD_MARKER,
]);

/**
 * Writes a physical backup of the cluster. A running server goes on working: all that was committed before the call is
 * in the backup, what is committed meanwhile may be. A stopped one cannot be started until its backup is done.
 * @throws EmbeddedPostgresError BACKUP_FAILED; no file is left then.
 */
export async function backupPostgres(options: BackupOptions): Promise<BackupSummary> {
  const places = placesOf(options.dataDir);
  const file = resolve(options.file);
  const temporary = join(dirname(file), `.${basename(file)}.${randomUUID()}`);
  if ((await inspectPostgres(options.dataDir)).state === 'absent') throw noData(options.dataDir);
  const writer = new ArchiveWriter(temporary);
  try {
    // A stopped server must stay so while it is copied; a running one may be joined and stopped meanwhile (and a
    // stop ends our session, and with it this backup).
    const cold = await withLock(places.lockFile, 60_000, () => coldBackup(options.dataDir, writer));
    const manifest = cold ?? (await hotBackup(options.dataDir, places.passwordFile, writer));
    const summary = { ...manifest, file, ...(await writer.finish()) };
    await rename(temporary, file);
    await syncDirectory(dirname(file));
    return summary;
  } catch (cause) {
    await writer.abort();
    await rm(temporary, { force: true });
    if (cause instanceof EmbeddedPostgresError) throw cause;
    throw failed(`the backup failed: ${(cause as Error).message}`, cause);
  }
}

/** The manifest of a backup; its contents are verified by a restore. @throws EmbeddedPostgresError BACKUP_INVALID */
export function readBackupManifest(file: string): Promise<BackupManifest> {
  return readManifest(file);
}

/** @returns undefined, with nothing written, if the server runs. */
async function coldBackup(dataDir: string, writer: ArchiveWriter): Promise<BackupManifest | undefined> {
  const found = await inspectPostgres(dataDir);
  if (found.state === 'absent') throw noData(dataDir);
  if (found.state === 'running') return undefined;
  const manifest = manifestOf('cold', found.major);
  await writer.manifest(manifest);
  await addTree(writer, found.dataDir, 'cold');
  return manifest;
}

/**
 * PostgreSQL's low-level backup, all in one session: between start and stop the files may be copied in any state, and
 * the WAL written from the one to the other makes them consistent. The temporary slot keeps that WAL from being
 * recycled, and goes with the session.
 */
async function hotBackup(dataDir: string, passwordFile: string, writer: ArchiveWriter): Promise<BackupManifest> {
  const found = await inspectPostgres(dataDir);
  const password = await readPassword(passwordFile);
  if (found.state !== 'running' || found.port === undefined || password === undefined) {
    throw failed('the server is not ready to be asked for a backup');
  }
  const manifest = manifestOf('hot', found.major);
  await writer.manifest(manifest);
  await withSession({ port: found.port, password }, async (sql) => {
    const slot = `baton_backup_${randomUUID().replaceAll('-', '_')}`;
    await sql`SELECT pg_create_physical_replication_slot(${slot}, true, true)`;
    const [started] = await sql`SELECT pg_walfile_name(pg_backup_start('baton', fast => true)) AS wal`;
    await addTree(writer, found.dataDir, 'hot');
    // In another session (ours was lost) this fails: its backup is not in progress there.
    // The end is exclusive: one that falls on a segment's boundary needs nothing of the segment after it.
    const [stopped] = await sql`
      SELECT pg_walfile_name(lsn - 1::numeric) AS wal, labelfile, spcmapfile
      FROM pg_backup_stop(wait_for_archive => false)`;
    if (started === undefined || stopped === undefined) throw failed('the server did not answer');
    if (stopped.spcmapfile) throw failed('tablespaces are not supported');
    await writer.content('backup_label', Buffer.from(stopped.labelfile as string));
    await addWal(writer, join(found.dataDir, 'pg_wal'), started.wal as string, stopped.wal as string);
  });
  return manifest;
}

function manifestOf(mode: 'hot' | 'cold', postgresMajor: number): BackupManifest {
  return { format: FORMAT_VERSION, postgresMajor, createdAt: new Date().toISOString(), mode };
}

async function addTree(writer: ArchiveWriter, dataDir: string, mode: 'hot' | 'cold'): Promise<void> {
  const walk = async (relative: string): Promise<void> => {
    for (const entry of await listIfThere(join(dataDir, relative), mode)) {
      const name = relative === '' ? entry.name : `${relative}/${entry.name}`;
      if (entry.isDirectory()) {
        if (entry.name.startsWith('pgsql_tmp')) continue;
        await writer.directory(name);
        if (!EMPTIED.has(name)) await walk(name);
      } else if (entry.isFile()) {
        if (isLeftOut(name, mode)) continue;
        await addFile(writer, dataDir, name, mode);
      } else {
        throw failed(`${name} is a link or a special file: tablespaces are not supported`);
      }
    }
  };
  await walk('');
  // The last word on where recovery starts, hence the last to be read.
  await addFile(writer, dataDir, 'global/pg_control', mode);
}

function isLeftOut(name: string, mode: 'hot' | 'cold'): boolean {
  if (name === 'global/pg_control' || name.startsWith('pgsql_tmp') || name.endsWith('/pg_internal.init')) return true;
  // A cold backup takes all the WAL there is, for the server may have been killed; a hot one adds what it needs.
  if (mode === 'hot' && name.startsWith('pg_wal/')) return true;
  return LEFT_OUT.has(name);
}

async function addFile(writer: ArchiveWriter, dataDir: string, name: string, mode: 'hot' | 'cold'): Promise<void> {
  try {
    const source = await open(join(dataDir, name), 'r');
    try {
      await writer.file(name, source);
    } finally {
      await source.close();
    }
  } catch (error) {
    // A running server drops tables; the WAL tells of it.
    if (mode === 'cold' || errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** All segments from the first to the last, and the history files of earlier timelines. */
async function addWal(writer: ArchiveWriter, walDir: string, first: string, last: string): Promise<void> {
  const names = await readdir(walDir);
  const needed = names.filter((name) => /^[0-9A-F]{24}$/.test(name) && name >= first && name <= last).sort();
  const count = segmentNumber(last) - segmentNumber(first) + 1;
  if (needed[0] !== first || needed.length !== count) {
    throw failed(`WAL from ${first} to ${last} is not all there (${needed.length} of ${count} segments)`);
  }
  for (const name of [...needed, ...names.filter((other) => other.endsWith('.history'))]) {
    const source = await open(join(walDir, name), 'r');
    try {
      await writer.file(`pg_wal/${name}`, source);
    } finally {
      await source.close();
    }
  }
}

/** Of a name of 8 digits each of timeline, log and segment; initdb's segments of 16 MiB make 256 to a log. */
function segmentNumber(name: string): number {
  return Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16, 24), 16);
}

async function listIfThere(directory: string, mode: 'hot' | 'cold'): Promise<Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (mode === 'hot' && errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function noData(dataDir: string): EmbeddedPostgresError {
  return failed(`there is no PostgreSQL data in ${dataDir}`);
}

function failed(message: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError('BACKUP_FAILED', message, { cause });
}
