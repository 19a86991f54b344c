import { spawn } from 'node:child_process';
import { access, chown, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Account, childEnvironment, giveTree } from './account.ts';
import type { Binaries } from './binaries.ts';
import { SUPERUSER } from './connection.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { newName } from './location.ts';
import { scramVerifier } from './password.ts';

/** In the data directory of a restored cluster: its catalog holds another password than the file beside it. */
export const RESET_PASSWORD_MARKER = 'baton.reset-password';

/** Makes a new cluster whole or not at all: initdb works in a directory of its own, which then takes the name. */
export async function createCluster(
  dataDir: string,
  password: string,
  account: Account,
  binaries: Binaries,
): Promise<void> {
  const home = newName(dataDir);
  const fresh = join(home, 'data');
  const passwordFile = join(home, 'password');
  await mkdir(home, { mode: 0o700 });
  try {
    await writeFile(passwordFile, password, { mode: 0o600 });
    giveTree(home, account);
    const ran = await runToEnd(binaries.initdb, account, [
      ...['-D', fresh, '-U', SUPERUSER, `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8'],
      // The built-in provider sorts by code point, the same on every machine and after every upgrade of it.
      ...['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
    ]);
    if (ran.code !== 0) {
      throw new EmbeddedPostgresError('INITDB_FAILED', `initdb failed: ${ran.output.trim().slice(-2_000)}`);
    }
    await rm(dataDir, { recursive: true, force: true });
    await rename(fresh, dataDir);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

/** Refuses data that the binaries cannot read; hands root-owned data (restored, copied) to the account. */
export async function checkCluster(dataDir: string, account: Account, binaries: Binaries): Promise<void> {
  const major = Number.parseInt(await readFile(join(dataDir, 'PG_VERSION'), 'utf8'), 10);
  if (major !== binaries.major) {
    const message = `the data in ${dataDir} is PostgreSQL ${major}'s, the binaries are ${binaries.version}`;
    throw new EmbeddedPostgresError('VERSION_MISMATCH', message, {
      hint: 'use the Baton that made it, or dump and load into a new directory',
    });
  }
  if (account.uid !== undefined && (await stat(join(dataDir, 'PG_VERSION'))).uid === 0) {
    giveTree(dataDir, account);
  }
}

/** Whether the catalog's password is known to differ from the one in the file. */
export async function needsPasswordReset(dataDir: string): Promise<boolean> {
  return access(join(dataDir, RESET_PASSWORD_MARKER)).then(
    () => true,
    () => false,
  );
}

/** Sets the superuser's password in single-user mode: whoever owns the files owns the cluster. It must be stopped. */
export async function resetPassword(
  dataDir: string,
  password: string,
  account: Account,
  binaries: Binaries,
): Promise<void> {
  const statement = `ALTER ROLE ${SUPERUSER} PASSWORD '${scramVerifier(password)}';\n`;
  const ran = await runToEnd(binaries.postgres, account, ['--single', '-D', dataDir, 'postgres'], statement);
  if (ran.code !== 0 || /ERROR:|FATAL:/.test(ran.output)) {
    const message = `the password could not be set: ${ran.output.trim().slice(-2_000)}`;
    throw new EmbeddedPostgresError('START_FAILED', message);
  }
  await rm(join(dataDir, RESET_PASSWORD_MARKER), { force: true });
}

/** Brings a whole tree to the disk; PostgreSQL's own way, which starts all writes before it waits for any. */
export async function syncCluster(dataDir: string, account: Account, binaries: Binaries): Promise<void> {
  const ran = await runToEnd(binaries.initdb, account, ['--sync-only', '-D', dataDir]);
  if (ran.code !== 0) throw new EmbeddedPostgresError('RESTORE_FAILED', `initdb --sync-only: ${ran.output.trim()}`);
}

/** Marks restored data, so that the next start sets its password to the one beside it. */
export async function markPasswordReset(dataDir: string): Promise<void> {
  const marker = join(dataDir, RESET_PASSWORD_MARKER);
  await writeFile(marker, '');
  const owner = await stat(dataDir);
  if (process.getuid?.() === 0) await chown(marker, owner.uid, owner.gid);
}

async function runToEnd(
  program: string,
  account: Account,
  args: readonly string[],
  input = '',
): Promise<{ code: number | null; output: string }> {
  const { uid, gid } = account;
  const child = spawn(program, args, { uid, gid, env: childEnvironment, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(new EmbeddedPostgresError('BINARIES_UNUSABLE', `${dirname(program)}: ${cause.message}`, { cause })),
    );
    child.once('close', (code) => resolve(code));
  });
  child.stdin.on('error', () => {}); // it may end before it has read everything; its exit code tells
  child.stdin.end(input);
  const [code, out, err] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { code, output: `${out}${err}` };
}
