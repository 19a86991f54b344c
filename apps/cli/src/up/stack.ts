import { hostname } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EmbeddedPostgres, startPostgres } from '@baton/postgres';
import type { Logger } from '@baton/telemetry';
import { type Environment, postgresDataDir, shownValue } from '../config.ts';
import { CliFailure, EXIT } from '../exit.ts';
import { ManagedChild } from './managed-child.ts';
import { stopOrphans } from './orphans.ts';
import { requireFreePort } from './port-owner.ts';
import { identify, type ProcessIdentity } from './process-identity.ts';
import { ensureReader, READER } from './reader-role.ts';
import { claimUpFile, removeUpFile, type UpState, updateUpFile } from './up-file.ts';

/** The worker's own grace for what it runs, and a little. */
const WORKER_GRACE_MS = 35_000;
const MASTER_GRACE_MS = 15_000;
const POSTGRES_GRACE_MS = 30_000;
const ORPHAN_GRACE_MS = 10_000;
const POSTGRES_DELAY_MS = 500;

export interface StackOptions {
  /** BATON_HOME. */
  readonly home: string;
  /** LOG_DIR. */
  readonly logDir: string;
  /** Of the master, on loopback; 0 is any free one. */
  readonly port: number;
  /** A Postgres of one's own; empty: the embedded one. */
  readonly databaseUrl: string;
  readonly workers: number;
  /** Modules of tasks that the workers load. */
  readonly tasks: readonly string[];
  /** Workers follow changes of those modules. Default false. */
  readonly watch?: boolean;
  /** A worker that dies is started again. Default true. */
  readonly restartWorkers?: boolean;
  /** What children inherit. */
  readonly env: Environment;
  readonly log: Logger;
  /** Something that a person should know while it runs: a child died, a child complains. */
  readonly onNotice: (text: string) => void;
}

export interface StackWorker extends ProcessIdentity {
  readonly name: string;
  /** Where its WorkerService is. */
  readonly url?: string;
}

/** Where everything is. */
export interface StackAddresses {
  readonly url: string;
  readonly workers: readonly StackWorker[];
  readonly postgres: {
    /** Whether the embedded one ran already when we came. */
    readonly adopted: boolean;
    /** With every right, password included: never shown. */
    readonly url: string;
    /** For people who look with SQL. Without a password where the Postgres is one's own. */
    readonly psqlUrl: string;
    /** Of the embedded one. */
    readonly server?: { readonly port: number; readonly pid: number; readonly logFile: string };
  };
}

/** It was told to stop before everything was up. */
export class StackStopped extends Error {
  override readonly name = 'StackStopped';
}

/** Postgres, a master and workers, kept alive by this process until `stop`. */
export class Stack {
  readonly #options: StackOptions;
  readonly #self = identify(process.pid);
  readonly #workers: readonly ManagedChild[];
  readonly #master: ManagedChild;
  #state: UpState;
  #postgres: EmbeddedPostgres | undefined;
  #databaseUrl: string;
  #psqlUrl: string;
  #url = '';
  /** What `stop` and `kill` must wait for before they know all that there is to end. */
  #settling: Promise<unknown> = Promise.resolve();
  #isStopping = false;
  /** Until then what a child says is part of the failure that it ends with. */
  #isUp = false;
  #holdsFile = false;
  #stopped: Promise<void> | undefined;

  constructor(options: StackOptions) {
    this.#options = { ...options, home: resolve(options.home), logDir: resolve(options.logDir) };
    this.#databaseUrl = options.databaseUrl;
    this.#psqlUrl = shownValue('databaseUrl', options.databaseUrl).replace(':***@', '@');
    this.#state = {
      ...this.#self,
      startedAt: new Date().toISOString(),
      children: [],
      logDir: this.#options.logDir,
    };
    this.#master = this.#child('master', 'master', () => ({
      DATABASE_URL: this.#databaseUrl,
      BATON_HOST: '127.0.0.1',
      // On a restart the same port again: everybody knows it by now.
      BATON_PORT: this.#url === '' ? String(options.port) : new URL(this.#url).port,
      BATON_HOME: this.#options.home,
      LOG_DIR: this.#options.logDir,
    }));
    // Workers on several machines may share a database of one's own, and a name belongs to one of them.
    const place = basename(this.#options.home).replace(/^\.+/, '');
    const prefix = options.databaseUrl === '' ? 'worker' : `${hostname()}-${place}`;
    this.#workers = Array.from({ length: options.workers }, (_, index) => this.#worker(`${prefix}-${index + 1}`));
  }

  /**
   * Brings everything up. Throws a failure when this home has a supervisor already or the port is taken, `StackStopped`
   * when it was stopped meanwhile, and what Postgres, master or workers fail with; what was started is stopped then.
   */
  async start(): Promise<StackAddresses> {
    const starting = this.#bringUp();
    this.#settling = starting.catch(() => {});
    try {
      return await starting;
    } catch (error) {
      const wasStopped = this.#isStopping;
      await this.stop();
      throw wasStopped ? new StackStopped('stopped before everything was up') : error;
    }
  }

  get addresses(): StackAddresses {
    const { adopted = false, port, pid, logFile } = this.#postgres ?? {};
    return {
      url: this.#url,
      workers: this.#workers.flatMap(({ name, ready }) => {
        return ready === undefined ? [] : [{ name, url: ready.line.url, ...ready.identity }];
      }),
      postgres: {
        adopted,
        url: this.#databaseUrl,
        psqlUrl: this.#psqlUrl,
        ...(this.#postgres && { server: { port: port!, pid: pid!, logFile: logFile! } }),
      },
    };
  }

  /** Ends workers (drained), master and Postgres, in this order, each with a bound. May be called more than once. */
  stop(): Promise<void> {
    this.#isStopping = true;
    this.#stopped ??= this.#shutDown();
    return this.#stopped;
  }

  /** Ends all of it now, also while `stop` goes on. Nothing that was acknowledged is lost. */
  async kill(): Promise<void> {
    this.#isStopping = true;
    await Promise.all([...this.#workers, this.#master].map((child) => child.kill()));
    await this.#settling;
    await Promise.all([...this.#workers, this.#master].map((child) => child.kill()));
    await this.#postgres?.stop({ mode: 'immediate', timeoutMs: POSTGRES_GRACE_MS });
    this.#releaseFile();
  }

  /** Ends the master gracefully and starts it again on its port: for code that has changed. */
  async restartMaster(): Promise<void> {
    if (!this.#isStopping) await this.#master.restart(MASTER_GRACE_MS);
  }

  async #bringUp(): Promise<StackAddresses> {
    const { home, port, log } = this.#options;
    const claim = claimUpFile(home, this.#state);
    if (!claim.ok) throw runsAlready(home, claim.holder);
    this.#holdsFile = true;
    if (claim.leftBehind !== undefined) {
      const count = await stopOrphans(claim.leftBehind, ORPHAN_GRACE_MS);
      log.warn('took over from a supervisor that died', { dead_pid: claim.leftBehind.pid, orphans: count });
    }
    await requireFreePort(port);
    for (const child of [this.#master, ...this.#workers]) child.prepare();
    if (this.#options.databaseUrl === '') await this.#startPostgres();
    this.#goOn();
    this.#url = String((await this.#master.start()).url);
    this.#goOn();
    await Promise.all([this.#openForReaders(), ...this.#workers.map((worker) => worker.start())]);
    this.#goOn();
    this.#isUp = true;
    this.#writeFile();
    log.info('everything is up', { url: this.#url, workers: this.#workers.length });
    return this.addresses;
  }

  #goOn(): void {
    if (this.#isStopping) throw new StackStopped('stopped before everything was up');
  }

  async #startPostgres(port?: number): Promise<void> {
    const { home, log } = this.#options;
    const postgres = await startPostgres({
      dataDir: postgresDataDir(home),
      port,
      log: (message, fields) => log.info(message, fields),
    });
    this.#postgres = postgres;
    this.#databaseUrl = postgres.url;
    void postgres.whenExited().then(() => this.#bringPostgresBack(postgres.port));
  }

  /** Master and workers wait for it meanwhile, each in its own way. */
  async #bringPostgresBack(port: number): Promise<void> {
    const { log, onNotice } = this.#options;
    while (!this.#isStopping) {
      log.error('PostgreSQL is gone', { port });
      onNotice('PostgreSQL is gone: it is started again');
      try {
        const starting = this.#startPostgres(port);
        this.#settling = starting.catch(() => {});
        await starting;
        return;
      } catch (error) {
        log.error('PostgreSQL did not start', { error });
        await sleep(POSTGRES_DELAY_MS);
      }
    }
  }

  async #openForReaders(): Promise<void> {
    if (this.#postgres === undefined) return;
    const password = await ensureReader(this.#options.home, this.#databaseUrl);
    this.#psqlUrl = this.#postgres.urlFor({ user: READER, password });
  }

  #worker(name: string): ManagedChild {
    const { tasks, watch, logDir } = this.#options;
    return this.#child(name, 'worker', () => ({
      BATON_URL: this.#url,
      BATON_WORKER_NAME: name,
      BATON_WORKER_PORT: '0',
      BATON_WORKER_TASKS: tasks.map((path) => resolve(path)).join(','),
      BATON_WORKER_WATCH: watch ? '1' : '',
      // Master and Postgres work for its tasks: their load closes no gate.
      BATON_HEALTH_OWN_PIDS: String(process.pid),
      LOG_DIR: logDir,
    }));
  }

  #child(name: string, kind: 'master' | 'worker', settings: () => Environment): ManagedChild {
    const { env, home, log, onNotice, restartWorkers = true } = this.#options;
    // The master is told which database; workers have no business there.
    const { DATABASE_URL: _, NODE_COMPILE_CACHE = join(home, 'cache'), ...inherited } = env;
    return new ManagedChild({
      name,
      kind,
      // What was compiled once is not compiled again: half of a start.
      env: { ...inherited, NODE_COMPILE_CACHE },
      settings,
      cwd: process.cwd(),
      restart: kind === 'master' || restartWorkers,
      onLine: (line) => {
        if (this.#isUp && !this.#isStopping && !isRoutine(line)) onNotice(line);
      },
      onReady: (ready, { pid }) => {
        log.info('child is up', { child: name, child_pid: pid, url: ready.url });
        this.#writeFile();
      },
      onDeath: (how, delayMs) => {
        log.error('child died', { child: name, how, restart_in_ms: delayMs });
        onNotice(`${name} ${how}${delayMs === undefined ? '' : `: it is started again in ${delayMs} ms`}`);
        this.#writeFile();
      },
    });
  }

  #writeFile(): void {
    if (!this.#holdsFile) return;
    const { databaseUrl, home } = this.#options;
    this.#state = {
      ...this.#state,
      ...(this.#url !== '' && { url: this.#url }),
      postgres: { embedded: databaseUrl === '', port: this.#postgres?.port, psqlUrl: this.#psqlUrl || undefined },
      children: [this.#master, ...this.#workers].flatMap(({ name, identity, ready }) => {
        return identity === undefined ? [] : [{ name, url: ready?.line.url, ...identity }];
      }),
    };
    updateUpFile(home, this.#state);
  }

  #releaseFile(): void {
    if (this.#holdsFile) removeUpFile(this.#options.home, this.#self);
    this.#holdsFile = false;
  }

  async #shutDown(): Promise<void> {
    const { log } = this.#options;
    await Promise.all(this.#workers.map((worker) => worker.stop(WORKER_GRACE_MS)));
    await this.#master.stop(MASTER_GRACE_MS);
    // What was on its way up when this began is there by now, or has failed.
    await this.#settling;
    await Promise.all([...this.#workers, this.#master].map((child) => child.kill()));
    await this.#postgres?.stop({ timeoutMs: POSTGRES_GRACE_MS }).catch(async (error: unknown) => {
      log.warn('PostgreSQL does not stop in time', { error });
      await this.#postgres?.stop({ mode: 'immediate', timeoutMs: POSTGRES_GRACE_MS });
    });
    // One that never had the file had nothing to stop.
    if (this.#holdsFile) log.info('everything is stopped');
    this.#releaseFile();
    await log.flush();
  }
}

function runsAlready(home: string, holder: UpState): CliFailure {
  const where = holder.url === undefined ? 'and is still starting' : `at ${holder.url}`;
  return new CliFailure(EXIT.failed, `Baton runs already in ${home}, ${where} (pid ${holder.pid})`, [
    'look at it: baton status',
    'stop it: baton stop',
    'start another one beside it: BATON_HOME=.baton-2 BATON_PORT=0 baton up',
  ]);
}

/** Children log for people too; what is routine stands in the files of LOG_DIR alone. */
function isRoutine(line: string): boolean {
  return /^\d\d:\d\d:\d\d\.\d{3} (info|debug) /.test(line);
}
