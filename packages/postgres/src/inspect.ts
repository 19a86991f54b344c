import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';
import { placesOf, realDataDir } from './location.ts';
import { withLock } from './lock.ts';
import { describeProcess, isPostmasterOf } from './process.ts';

/** What is known about a data directory without changing anything. */
export type Inspection = AbsentData | StoppedServer | RunningServer | StalePidFile;

interface Known {
  /** Where the data really lies (links followed). */
  readonly dataDir: string;
  /** The data's major version, e.g. 18. */
  readonly major: number;
}
/** No data here: the directory is missing, empty, or holds something else. */
export interface AbsentData {
  readonly state: 'absent';
  readonly dataDir: string;
}
/** Data, and no postmaster.pid. */
export interface StoppedServer extends Known {
  readonly state: 'stopped';
}
/** A live postmaster serves it. `port` is undefined in the first moments of a start. */
export interface RunningServer extends Known {
  readonly state: 'running';
  readonly status: 'starting' | 'ready' | 'stopping';
  readonly pid: number;
  readonly port: number | undefined;
  readonly startedAt: Date | undefined;
}
/** postmaster.pid is there but its process is dead, or is `program`, which is no postmaster of this directory. */
export interface StalePidFile extends Known {
  readonly state: 'stale_pid_file';
  readonly pid: number | undefined;
  readonly port: number | undefined;
  readonly cause: 'dead' | 'other_program';
  readonly program: string | undefined;
}

/** Reads the state of a data directory; changes nothing and connects to nothing. For `doctor`, and for starting. @throws EmbeddedPostgresError NO_PERMISSION */
export async function inspectPostgres(dataDir: string): Promise<Inspection> {
  const real = await realDataDir(placesOf(dataDir).requested);
  const major = Number.parseInt((await readIfThere(join(real, 'PG_VERSION'))) ?? '', 10);
  if (Number.isNaN(major)) return { state: 'absent', dataDir: real };
  const text = await readIfThere(pidFileOf(real));
  if (text === undefined) return { state: 'stopped', dataDir: real, major };

  // Lines: pid, data directory, start time, port, socket directory, address, shared memory key, status.
  const lines = text.split('\n').map((line) => line.trim());
  const pid = positive(lines[0]);
  const port = positive(lines[3]);
  const found = pid === undefined ? undefined : await describeProcess(pid);
  if (pid === undefined || found === undefined) {
    return { state: 'stale_pid_file', dataDir: real, major, pid, port, cause: 'dead', program: undefined };
  }
  if (!isPostmasterOf(found, real)) {
    const program = found.argv.join(' ').slice(0, 200);
    return { state: 'stale_pid_file', dataDir: real, major, pid, port, cause: 'other_program', program };
  }
  const seconds = positive(lines[2]);
  const startedAt = seconds === undefined ? undefined : new Date(seconds * 1000);
  const status = lines[7] === 'ready' ? 'ready' : lines[7] === 'stopping' ? 'stopping' : 'starting';
  return { state: 'running', status, dataDir: real, major, pid, port, startedAt };
}

/**
 * Removes postmaster.pid if, and only if, it is stale. Safe beside a start on the same directory.
 * @returns whether a file was removed.
 */
export async function clearStalePidFile(dataDir: string): Promise<boolean> {
  const before = await inspectPostgres(dataDir);
  if (before.state !== 'stale_pid_file') return false;
  return withLock(placesOf(dataDir).lockFile, 60_000, async () => {
    const found = await inspectPostgres(dataDir);
    if (found.state !== 'stale_pid_file') return false;
    await rm(pidFileOf(found.dataDir), { force: true });
    return true;
  });
}

export function pidFileOf(realDataDirectory: string): string {
  return join(realDataDirectory, 'postmaster.pid');
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw new EmbeddedPostgresError('NO_PERMISSION', `cannot read ${file}: ${(error as Error).message}`, {
      hint: 'the data belongs to another user: run as that user',
      cause: error,
    });
  }
}

function positive(text: string | undefined): number | undefined {
  const value = Number.parseInt(text ?? '', 10);
  return value > 0 ? value : undefined;
}
