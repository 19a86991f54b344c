import { spawnSync } from 'node:child_process';
import { lchownSync, readdirSync, type Stats } from 'node:fs';
import { chmod, lstat, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from './errors.ts';

/** Who the server runs as. Undefined ids mean: whoever we are (we are not root). */
export interface Account {
  readonly name: string;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** What every child is started with: nothing of our own environment, for it may hold tokens. */
export const childEnvironment = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' } as const;

/**
 * PostgreSQL refuses to run as root. Then it runs as the owner of the data that is already there, else as `postgres`,
 * else as `nobody`; anyone else simply runs it.
 */
export async function chooseAccount(dataDir: string): Promise<Account> {
  if (process.getuid?.() !== 0) return { name: 'self', uid: undefined, gid: undefined };
  const owner = await stat(join(dataDir, 'PG_VERSION')).catch(() => undefined);
  if (owner !== undefined && owner.uid !== 0) return { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  const lines = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n').map((line) => line.split(':'));
  for (const name of ['postgres', '_postgres', 'nobody']) {
    const entry = lines.find((fields) => fields[0] === name);
    // An id of -2, as macOS writes nobody, is 2^32 - 2.
    if (entry !== undefined) return { name, uid: Number(entry[2]) >>> 0, gid: Number(entry[3]) >>> 0 };
  }
  return { name: 'nobody', uid: 65_534, gid: 65_534 };
}

/** Whether the account can enter the directory; asked of the kernel, so that ACLs and mount options count. */
export function canEnter(account: Account, directory: string): boolean {
  const { uid, gid } = account;
  const probe = spawnSync('/bin/sh', ['-c', 'cd -- "$1"', 'sh', directory], {
    uid,
    gid,
    env: childEnvironment,
    cwd: '/',
    stdio: 'ignore',
  });
  return probe.status === 0;
}

/** Makes the directory and its missing parents so that other accounts can pass (not list) them, whatever the umask. */
export async function makePassable(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true });
  if (first === undefined || process.getuid?.() !== 0) return;
  for (let made = directory; made.length >= first.length; made = dirname(made)) await chmod(made, 0o711);
}

/**
 * Gives a whole tree to the account; does nothing unless we are root. Links are not followed. Synchronous: a cluster
 * has over a thousand small files, and a trip through the thread pool for each takes ten times as long as the work.
 */
export function giveTree(directory: string, { uid, gid }: Account): void {
  if (uid === undefined || gid === undefined) return;
  lchownSync(directory, uid, gid);
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    lchownSync(join(entry.parentPath, entry.name), uid, gid);
  }
}

/**
 * The first of these directories that root alone controls and the account can enter; made if missing. One that
 * somebody else made (anyone may under /var/tmp) is passed over: root would run what they put there.
 */
export async function privateRoot(candidates: readonly string[], account: Account): Promise<string | undefined> {
  for (const candidate of candidates) {
    try {
      await mkdir(candidate, { mode: 0o711 });
      await chmod(candidate, 0o711);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') continue;
    }
    const found = await lstat(candidate).catch(() => undefined);
    if (found !== undefined && isOurs(found) && canEnter(account, candidate)) return candidate;
  }
  return undefined;
}

function isOurs(found: Stats): boolean {
  return found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
}
