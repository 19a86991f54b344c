import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Baton, createBaton } from '@baton/client';
import { type MasterConfig, readConfig, startMaster } from '@baton/master';
import { createLogger, type Logger } from '@baton/telemetry';
import { createWorker, type WorkerOptions } from '@baton/worker';
import { endLeftBehind, stopLeftPostgres } from './left-behind.ts';

export interface StandaloneOptions {
  /** What the worker of this process carries out: an array, a module, or what `loadTasks` gives. Default: calls of services alone. */
  readonly tasks?: WorkerOptions['tasks'];
  /** Tasks at once. Default: the processors of the machine. */
  readonly slots?: number;
  readonly tags?: readonly string[];
  /**
   * Where the embedded Postgres keeps its data. A directory that is in use by a `baton up` is joined. Default: a directory of its own
   * that is removed at the end, and with it everything that was stored.
   */
  readonly home?: string;
  /** A Postgres of one's own instead of the embedded one. */
  readonly databaseUrl?: string;
  /** Over the defaults of a master. */
  readonly settings?: Partial<MasterConfig['settings']>;
  /** Default: warnings and errors, on stderr. */
  readonly log?: Logger;
}

/** A master and a worker in this process. */
export interface Standalone extends AsyncDisposable {
  readonly baton: Baton;
  /** Of its master, on loopback: other programs of this machine may call it while it is there. */
  readonly url: string;
  readonly databaseUrl: string;
  /** The worker drains, the master ends, Postgres is stopped. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Runs Baton in this process: the same engine, store and worker as everywhere, with nothing to set up and nothing left running. For
 * tests, scripts and laptops. What runs here dies with this process; with a `home` it goes on in the next one.
 *
 * ```ts
 * await using baton = await startStandalone({ tasks: [greet] });
 * await (await baton.baton.enqueue(greet, { name: 'Ada' })).result();
 * ```
 *
 * @throws what a master throws that cannot start: NotLoopbackError, EmbeddedPostgresError, SchemaMismatch …
 */
export async function startStandalone(options: StandaloneOptions = {}): Promise<Standalone> {
  const log = options.log ?? createLogger({ name: 'standalone', level: 'warn' });
  const ownHome = options.home === undefined ? await mkdtemp(join(tmpdir(), 'baton-standalone-')) : undefined;
  const removeHome = async () => {
    if (ownHome !== undefined) await rm(ownHome, { recursive: true, force: true });
  };
  const base = readConfig({ BATON_PORT: '0', DATABASE_URL: options.databaseUrl, BATON_HOME: options.home ?? ownHome });
  const config: MasterConfig = {
    ...base,
    // Everything is on this machine.
    compressAnswers: false,
    settings: { ...base.settings, ...options.settings },
  };
  const master = await startMaster(config, log).catch(async (error: unknown) => {
    await removeHome();
    throw error;
  });
  const worker = createWorker({
    url: master.url,
    name: `standalone-${process.pid}`,
    tasks: options.tasks,
    slots: options.slots,
    tags: options.tags,
    // There is no other machine that could do it instead.
    health: { gates: false },
    log,
  });
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      await worker.stop('the standalone process ends');
      await worker.stopped;
      await master.stop();
      if (options.home !== undefined && options.databaseUrl === undefined)
        await stopLeftPostgres(options.home, master.databaseUrl);
      await removeHome();
    })();
    return stopping;
  };
  try {
    if (
      options.home !== undefined &&
      options.databaseUrl === undefined &&
      (await endLeftBehind(master.databaseUrl)) > 0
    )
      await master.engine.look();
    await worker.start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    baton: createBaton({ url: master.url }),
    url: master.url,
    databaseUrl: master.databaseUrl,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
