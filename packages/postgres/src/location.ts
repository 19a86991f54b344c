import { randomUUID } from 'node:crypto';
import { lstat, mkdir, readdir, readlink, realpath, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Account, canEnter, makePassable, privateRoot } from './account.ts';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';

/** Root-only directories for what cannot stay where it was asked for; the first usable one is taken. */
export const FALLBACK_ROOTS = ['/var/lib/baton', '/var/tmp/baton-root'] as const;

/** What lies beside a data directory. A directory named `data` has plain names, any other has its own as prefix. */
export interface Places {
  /** As the caller named it, absolute; may be a link. */
  readonly requested: string;
  /** Superuser's password, mode 0600. */
  readonly passwordFile: string;
  readonly logFile: string;
  readonly lockFile: string;
}

export function placesOf(dataDir: string): Places {
  const requested = resolve(dataDir);
  const prefix = basename(requested) === 'data' ? '' : `${basename(requested)}.`;
  const beside = (name: string) => join(dirname(requested), `${prefix}${name}`);
  return { requested, passwordFile: beside('password'), logFile: beside('postgres.log'), lockFile: beside('lock') };
}

/** The directory behind the name: follows links, even a dangling one, and the links of the parents that exist. */
export async function realDataDir(requested: string): Promise<string> {
  try {
    return await realpath(requested);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  const target = await readlink(requested).catch(() => undefined);
  if (target !== undefined) return resolve(dirname(requested), target);
  const parent = await realpath(dirname(requested)).catch(() => dirname(requested));
  return join(parent, basename(requested));
}

/** Whether the directory is missing or has nothing in it. */
export async function isEmpty(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length === 0;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return true;
    throw error;
  }
}

export interface SettleOptions {
  readonly fallbackRoots?: readonly string[];
  readonly log?: (message: string, fields?: Record<string, unknown>) => void;
}

/**
 * Finds or makes the place where the data of `requested` really lies, one that the account can reach. Where a parent
 * shuts the account out (root's home has mode 0700), new data goes to a private directory of root's and `requested`
 * becomes a link to it; data that is already there is never moved.
 * @returns the real data directory; its parent exists, it itself may not.
 * @throws EmbeddedPostgresError DIRECTORY_IMPASSABLE
 */
export async function settle(requested: string, account: Account, options: SettleOptions): Promise<string> {
  await makePassable(dirname(requested));
  const real = await realDataDir(requested);
  await makePassable(dirname(real));
  await clearLeftovers(real, options.log);
  if (canEnter(account, dirname(real))) return real;
  const hint = `let others pass with chmod o+x on its parents, or choose another directory (BATON_HOME)`;
  if (!(await isEmpty(real))) {
    throw new EmbeddedPostgresError(
      'DIRECTORY_IMPASSABLE',
      `${account.name}, who runs PostgreSQL, cannot enter ${real}`,
      { hint },
    );
  }
  const root = await privateRoot(options.fallbackRoots ?? FALLBACK_ROOTS, account);
  if (root === undefined) {
    throw new EmbeddedPostgresError('DIRECTORY_IMPASSABLE', `${account.name} cannot enter ${dirname(real)}`, { hint });
  }
  // A new name each time: data that somebody removed by its old name must not come back.
  const home = join(root, `data-${randomUUID()}`);
  await mkdir(home, { mode: 0o711 });
  const target = join(home, 'data');
  await rm(requested, { recursive: true, force: true });
  await symlink(target, requested);
  options.log?.('the server cannot enter the data directory: its data is kept elsewhere', {
    requested,
    data_dir: target,
    runs_as: account.name,
  });
  return target;
}

/** Half-made directories of a start or restore that was killed; the caller holds the lock, so nobody is at work. */
async function clearLeftovers(dataDir: string, log: SettleOptions['log']): Promise<void> {
  const replaced = replacedName(dataDir);
  const hasReplaced = await lstat(replaced).then(
    () => true,
    () => false,
  );
  if (hasReplaced && (await isEmpty(dataDir))) {
    log?.('a restore was interrupted: the data from before it is put back', { data_dir: dataDir });
    await rm(dataDir, { recursive: true, force: true });
    await rename(replaced, dataDir);
  } else if (hasReplaced) {
    await rm(replaced, { recursive: true, force: true });
  }
  const prefix = `${basename(dataDir)}.new-`;
  for (const name of await readdir(dirname(dataDir))) {
    if (name.startsWith(prefix)) await rm(join(dirname(dataDir), name), { recursive: true, force: true });
  }
}

/** Where a copy of the binaries may go: beside the data, or for root to a directory that only root controls. */
export async function copyRoot(
  account: Account,
  places: Places,
  fallbackRoots: readonly string[] = FALLBACK_ROOTS,
): Promise<string | undefined> {
  return account.uid === undefined ? dirname(places.requested) : privateRoot(fallbackRoots, account);
}

/** A directory that will become `dataDir` by rename; leftovers are cleared by the next start. */
export function newName(dataDir: string): string {
  return `${dataDir}.new-${randomUUID()}`;
}

/** Where the old data waits while a restore puts the new in its place. */
export function replacedName(dataDir: string): string {
  return `${dataDir}.replaced`;
}
