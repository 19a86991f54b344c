import { type ChildProcess, spawn } from 'node:child_process';
import { open, readFile, rename, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Account, childEnvironment } from './account.ts';
import type { Binaries } from './binaries.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { inspectPostgres } from './inspect.ts';

/** Server settings by their PostgreSQL names, over the defaults below. */
export type Settings = Readonly<Record<string, string | number>>;

const DEFAULT_SETTINGS: Settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: 200,
  shared_buffers: '256MB',
  fsync: 'on',
  synchronous_commit: 'on',
  // Room for the WAL of a burst: fewer checkpoints, each of which makes full page images due again.
  max_wal_size: '4GB',
  // The narrow tables of live state turn over in seconds; the default of a minute lets them bloat.
  autovacuum_naptime: '10s',
  track_io_timing: 'on',
  log_line_prefix: '%m [%p] %a ',
  log_lock_waits: 'on',
  timezone: 'UTC',
  log_timezone: 'UTC',
  cluster_name: 'baton',
};

const LOG_ROTATE_BYTES = 16 * 1024 * 1024;

export interface LaunchOptions {
  readonly dataDir: string;
  readonly logFile: string;
  readonly account: Account;
  readonly binaries: Binaries;
  /** 0: any free port. Undefined: the port of the time before if it is free, else any. */
  readonly port: number | undefined;
  readonly settings: Settings;
  /** On the clock of performance.now(). */
  readonly deadline: number;
}

export interface Launched {
  readonly pid: number;
  readonly port: number;
  /** Resolves when the process is gone and reaped. */
  readonly exited: Promise<void>;
}

/**
 * Spawns the postmaster, in a session of its own so that neither Ctrl-C nor our death reaches it, and waits until its
 * pid file says ready.
 * @throws EmbeddedPostgresError PORT_TAKEN, START_FAILED with the end of the log, START_TIMEOUT
 */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const previous = options.port === undefined ? await previousPort(options.dataDir) : undefined;
  let port = options.port || (previous !== undefined && (await isFree(previous)) ? previous : 0);
  for (let attempt = 1; ; attempt++) {
    const chosen = port || (await freePort());
    const outcome = await launchOnce(options, chosen);
    if ('pid' in outcome) return outcome;
    const portTaken = /could not bind IPv4 address|could not create any TCP\/IP sockets/.test(outcome.failure);
    if (portTaken && options.port) {
      throw new EmbeddedPostgresError('PORT_TAKEN', `port ${options.port} is taken`, {
        hint: 'choose another port, or 0 for any free one',
      });
    }
    // Backends of a killed postmaster need a moment to notice that it is gone and to let go of its shared memory.
    const orphans = /pre-existing shared memory block/.test(outcome.failure);
    if (!(portTaken && attempt < 10) && !(orphans && performance.now() < options.deadline)) {
      throw new EmbeddedPostgresError('START_FAILED', `PostgreSQL did not start:\n${outcome.failure}`, {
        hint: `its log is ${options.logFile}`,
      });
    }
    if (portTaken) port = 0;
    else await sleep(100);
  }
}

async function launchOnce(options: LaunchOptions, port: number): Promise<Launched | { failure: string }> {
  const { dataDir, logFile, account, binaries } = options;
  await rotate(logFile);
  const log = await open(logFile, 'a', 0o600);
  let child: ChildProcess;
  let offset: number;
  try {
    offset = (await log.stat()).size;
    child = spawn(binaries.postgres, ['-D', dataDir, ...settingsArguments(options, port)], {
      uid: account.uid,
      gid: account.gid,
      env: childEnvironment,
      cwd: '/',
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
  } finally {
    await log.close();
  }
  let spawnError: Error | undefined;
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      spawnError = error;
      resolve();
    });
  });
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  child.unref();
  while (!gone) {
    const found = await inspectPostgres(dataDir);
    if (found.state === 'running' && found.pid === child.pid && found.status === 'ready') {
      return { pid: found.pid, port, exited };
    }
    if (performance.now() > options.deadline) {
      throw new EmbeddedPostgresError('START_TIMEOUT', 'PostgreSQL is not ready yet', {
        hint: `it may be recovering (see ${logFile}) and is left running: start again to join it`,
      });
    }
    await sleep(10);
  }
  const written = (await readFile(logFile)).subarray(offset).toString('utf8').trim();
  return { failure: spawnError?.message ?? written.slice(-4_000) };
}

function settingsArguments({ binaries, settings }: LaunchOptions, port: number): string[] {
  const preload: Settings = binaries.hasStatStatements ? { shared_preload_libraries: 'pg_stat_statements' } : {};
  const all: Settings = { ...DEFAULT_SETTINGS, ...preload, ...settings, port };
  return Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

/** postmaster.opts keeps the command line of the last start: a printed URL stays good over a restart. */
async function previousPort(dataDir: string): Promise<number | undefined> {
  const line = await readFile(join(dataDir, 'postmaster.opts'), 'utf8').catch(() => '');
  const port = Number(/"port=(\d+)"/.exec(line)?.[1]);
  return Number.isInteger(port) && port > 0 ? port : undefined;
}

function isFree(port: number): Promise<boolean> {
  return listenOnce(port).then(
    () => true,
    () => false,
  );
}

function freePort(): Promise<number> {
  return listenOnce(0);
}

function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ port, host: '127.0.0.1' }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : port));
    });
  });
}

async function rotate(logFile: string): Promise<void> {
  const size = await stat(logFile).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_ROTATE_BYTES) await rename(logFile, `${logFile}.1`);
}
