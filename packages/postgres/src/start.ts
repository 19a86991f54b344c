import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chooseAccount, makePassable } from './account.ts';
import { prepareBinaries } from './binaries.ts';
import { checkCluster, createCluster, needsPasswordReset, resetPassword } from './cluster.ts';
import { DATABASE, urlOf, waitUntilAnswers, withSession } from './connection.ts';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';
import { inspectPostgres, pidFileOf, type RunningServer } from './inspect.ts';
import { launch, type Settings } from './launch.ts';
import { copyRoot, isEmpty, type Places, placesOf, realDataDir, settle } from './location.ts';
import { withLock } from './lock.ts';
import { createPassword, readPassword } from './password.ts';
import { describeProcess, isPostmasterOf } from './process.ts';
import { type StopOptions, stopPostgres, waitUntilGone } from './stop.ts';

export interface StartOptions {
  /** Made if missing. Password, log and lock file lie beside it. */
  readonly dataDir: string;
  /** On 127.0.0.1. 0: any free port. Default: the port of the last start if it is free, else any. */
  readonly port?: number;
  /** Over the defaults, by their PostgreSQL names; an adopted server keeps those it was started with. */
  readonly settings?: Settings;
  /** How long to wait for the lock, for recovery and for the first answer; default 120 000. */
  readonly startTimeoutMs?: number;
  /** For root only: where data and binaries go that the server's account cannot reach; default /var/lib/baton. */
  readonly fallbackRoots?: readonly string[];
  readonly log?: (message: string, fields?: Record<string, unknown>) => void;
}

/** A running server. It outlives this process; nothing here needs closing. */
export interface EmbeddedPostgres {
  /** Superuser's URL of the database `baton`, password included. */
  readonly url: string;
  /** The same server for another role or database, e.g. a read-only one. */
  urlFor(target: { database?: string } & ({ user: string; password: string } | { user?: undefined })): string;
  readonly port: number;
  readonly pid: number;
  /** Whether it was running already when we came. */
  readonly adopted: boolean;
  /** As the server says it, e.g. '18.4'. */
  readonly version: string;
  /** Where the data really lies (links followed). */
  readonly dataDir: string;
  readonly logFile: string;
  /** Resolves when this postmaster is gone, for whatever reason; does not keep the process alive. */
  whenExited(): Promise<void>;
  /** Stops it and waits until it is gone; nothing happens if it is not running. See {@link stopPostgres}. */
  stop(options?: StopOptions): Promise<void>;
}

/**
 * Starts PostgreSQL on a data directory, or joins the server that already runs there. Of several starts at once, in
 * one process or many, one starts it and the others join. Data and server survive the death of this process.
 * @throws EmbeddedPostgresError
 */
export async function startPostgres(options: StartOptions): Promise<EmbeddedPostgres> {
  const timeoutMs = options.startTimeoutMs ?? 120_000;
  const deadline = performance.now() + timeoutMs;
  const places = placesOf(options.dataDir);
  try {
    await makePassable(dirname(places.requested));
    return await withLock(places.lockFile, timeoutMs, () => startLocked(places, options, deadline));
  } catch (cause) {
    if (errnoOf(cause) !== 'EACCES' && errnoOf(cause) !== 'EPERM' && errnoOf(cause) !== 'EROFS') throw cause;
    throw new EmbeddedPostgresError('NO_PERMISSION', `cannot use ${places.requested}: ${(cause as Error).message}`, {
      hint: 'the directory belongs to another user, or cannot be written',
      cause,
    });
  }
}

async function startLocked(places: Places, options: StartOptions, deadline: number): Promise<EmbeddedPostgres> {
  const log = options.log ?? (() => {});
  for (;;) {
    const found = await inspectPostgres(places.requested);
    if (found.state !== 'running') break;
    if (found.status === 'stopping') {
      log('the server is stopping: waiting for it', { postgres_pid: found.pid });
      await waitUntilGone(found.pid, deadline, 'stopping');
      continue;
    }
    const adopted = await adopt(found, places, options, deadline);
    if (adopted !== undefined) return adopted;
  }

  const before = await chooseAccount(await realDataDir(places.requested));
  const dataDir = await settle(places.requested, before, options);
  const account = await chooseAccount(dataDir); // settling may have put data back that has an owner
  const binaries = await prepareBinaries(account, {
    log,
    copyInto: () => copyRoot(account, places, options.fallbackRoots),
  });

  const found = await inspectPostgres(places.requested);
  let created = false;
  if (found.state === 'absent') {
    if (!(await isEmpty(dataDir))) {
      throw new EmbeddedPostgresError('NOT_A_DATA_DIRECTORY', `${dataDir} holds something that is no PostgreSQL data`, {
        hint: 'choose an empty directory',
      });
    }
    const password = (await readPassword(places.passwordFile)) ?? (await createPassword(places.passwordFile));
    log('making a new database cluster', { data_dir: dataDir, runs_as: account.name, version: binaries.version });
    await createCluster(dataDir, password, account, binaries);
    created = true;
  } else if (found.state === 'stale_pid_file') {
    // Not left to PostgreSQL: it takes any live process of its own user, and a zombie, for the postmaster.
    log('removing a stale postmaster.pid', { postgres_pid: found.pid, cause: found.cause, program: found.program });
    await rm(pidFileOf(dataDir), { force: true });
  }
  await checkCluster(dataDir, account, binaries);
  const kept = await readPassword(places.passwordFile);
  const password = kept ?? (await createPassword(places.passwordFile));
  if (kept === undefined || (await needsPasswordReset(dataDir))) {
    log('setting the password anew', { password_file: places.passwordFile });
    await resetPassword(dataDir, password, account, binaries);
  }
  const { logFile } = places;
  const settings = options.settings ?? {};
  const server = await launch({ dataDir, logFile, account, binaries, port: options.port, settings, deadline });
  const version = await answers(server.pid, server.port, password, dataDir, deadline);
  await ensureDatabase(server.port, password, binaries.hasStatStatements);
  log(created ? 'PostgreSQL is up with a new cluster' : 'PostgreSQL is up', {
    postgres_pid: server.pid,
    port: server.port,
  });
  return handle({ ...server, password, version, adopted: false, dataDir, places });
}

/** @returns undefined when it turned out to be stopping or gone. */
async function adopt(
  found: RunningServer,
  places: Places,
  options: StartOptions,
  deadline: number,
): Promise<EmbeddedPostgres | undefined> {
  const { pid, port, dataDir } = found;
  if (port === undefined) {
    if (performance.now() > deadline) {
      throw new EmbeddedPostgresError('START_TIMEOUT', `PostgreSQL (pid ${pid}) has not written its port yet`);
    }
    await sleep(20);
    return undefined;
  }
  const password = await readPassword(places.passwordFile);
  if (password === undefined) {
    throw new EmbeddedPostgresError('PASSWORD_REJECTED', `a server runs on ${dataDir}, but its password is missing`, {
      hint: 'stop it and start again: a new password is set then',
    });
  }
  let version: string;
  try {
    version = await answers(pid, port, password, dataDir, deadline);
  } catch (error) {
    if (error instanceof EmbeddedPostgresError && error.reason === 'START_FAILED') return undefined;
    throw error;
  }
  await ensureDatabase(port, password, false);
  options.log?.('joined the PostgreSQL that was running', { postgres_pid: pid, port });
  if (options.port && options.port !== port) {
    options.log?.('it listens on another port than the one asked for', { port, asked: options.port });
  }
  return handle({ pid, port, password, version, adopted: true, dataDir, places });
}

/** START_FAILED if the postmaster goes away or begins to stop while we wait. */
function answers(pid: number, port: number, password: string, dataDir: string, deadline: number): Promise<string> {
  return waitUntilAnswers({ port, password }, deadline, async () => {
    const now = await inspectPostgres(dataDir);
    if (now.state === 'running' && now.pid === pid && now.status !== 'stopping') return;
    throw new EmbeddedPostgresError('START_FAILED', `PostgreSQL (pid ${pid}) went away while it was waited for`);
  });
}

/** A start that was killed between initdb and here left no database; hence at every start. */
async function ensureDatabase(port: number, password: string, hasStatStatements: boolean): Promise<void> {
  await withSession({ port, password, database: 'postgres' }, async (sql) => {
    const [row] = await sql`SELECT 1 FROM pg_database WHERE datname = ${DATABASE}`;
    if (row === undefined) await sql.unsafe(`CREATE DATABASE ${DATABASE}`);
  });
  if (!hasStatStatements) return;
  await withSession({ port, password }, (sql) => sql`CREATE EXTENSION IF NOT EXISTS pg_stat_statements`.execute());
}

interface HandleParts {
  readonly pid: number;
  readonly port: number;
  readonly password: string;
  readonly version: string;
  readonly adopted: boolean;
  readonly dataDir: string;
  readonly places: Places;
  readonly exited?: Promise<void>;
}

function handle({ pid, port, password, version, adopted, dataDir, places, exited }: HandleParts): EmbeddedPostgres {
  return {
    url: urlOf({ port, password }),
    urlFor: (target) => urlOf({ port, password, ...target }),
    port,
    pid,
    adopted,
    version,
    dataDir,
    logFile: places.logFile,
    whenExited: () => exited ?? pollUntilGone(pid, dataDir),
    stop: async (stopOptions) => {
      const info = await describeProcess(pid);
      if (info !== undefined && isPostmasterOf(info, dataDir)) await stopPostgres(places.requested, stopOptions);
    },
  };
}

async function pollUntilGone(pid: number, dataDir: string): Promise<void> {
  for (;;) {
    const info = await describeProcess(pid);
    if (info === undefined || !isPostmasterOf(info, dataDir)) return;
    await sleep(250, undefined, { ref: false });
  }
}
