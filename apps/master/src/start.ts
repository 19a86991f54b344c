import { readFileSync } from 'node:fs';
import {
  type ApiOptions,
  apiInterceptors,
  createMasterApp,
  MASTER_SERVICES,
  masterRoutes,
  refusalsBelow,
} from '@baton/api';
import { createIdMaker } from '@baton/domain';
import { createEngine, type Engine } from '@baton/engine';
import { assertLoopback, createHealth, type RunningServer, serve } from '@baton/server';
import { openHintChannel, openPools, postgresBlobs } from '@baton/store';
import { createNodeHash, directoryBlobs } from '@baton/store/node';
import type { Logger } from '@baton/telemetry';
import type { MasterConfig } from './config.ts';
import { openDatabase } from './database.ts';
import { type LoopLag, watchLoopLag } from './loop-lag.ts';
import { takeNodeNumber } from './node-number.ts';
import { mountStatic } from './static.ts';

export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

export interface Master {
  readonly id: string;
  readonly url: string;
  readonly port: number;
  readonly databaseUrl: string;
  /** For programs that run a master within themselves. */
  readonly engine: Engine;
  /** Ends polls and watches, finishes what is under way, gives its number back, stops its embedded Postgres. Idempotent. */
  stop(): Promise<void>;
  /** Resolves when it has stopped, with what made it stop if nobody asked. */
  readonly stopped: Promise<Error | null>;
}

const GRACE_MS = 10_000;

/**
 * Starts a master: database, migrations, node number, engine, port, in this order; periodic duties begin when the port is open.
 *
 * @param now wall clock, ms; a test's is ahead of the machine's, together with its database's
 * @throws NotLoopbackError, PortTakenError, SchemaMismatch, EmbeddedPostgresError, NoNodeNumber
 */
export async function startMaster(config: MasterConfig, log: Logger, now: () => number = Date.now): Promise<Master> {
  // No tokens yet: nothing but this machine may come in.
  assertLoopback(config.host);
  const database = await openDatabase(config.databaseUrl, config.home, log);
  const pools = openPools(database.url, {
    leaseTtlMs: config.settings.leaseTtlMs,
    onNotice: (notice) => log.debug('notice of Postgres', { notice }),
    onSilence: () => log.warn('Postgres left calls without an answer; connecting anew'),
  });
  let server: RunningServer | undefined;
  try {
    let lastId = '0';
    const number = await takeNodeNumber(pools.lease, `${config.host}:${config.port}`, () => lastId);
    const ids = createIdMaker(number.node, now, number.idFloor);
    const engine = createEngine({
      pools,
      settings: config.settings,
      ids: {
        next() {
          number.assertHeld();
          lastId = ids.next();
          return lastId;
        },
      },
      now,
      random: Math.random,
      endOfTurn: setImmediate,
      blobStores: {
        postgres: postgresBlobs({ createHash: createNodeHash }),
        ...(config.blobDirectory !== null && { directory: await directoryBlobs(config.blobDirectory) }),
      },
      hints: openHintChannel(database.url, {
        onLost: (why) => log.warn('hints of other masters are not heard', { why }),
      }),
      log,
    });
    const startedAt = performance.now();
    const masterId = `${number.node}-${number.instance.slice(0, 8)}`;
    const closing = new AbortController();
    // What is cut off by the end is nobody's mistake.
    const report = (error: unknown, where: string) =>
      log[closing.signal.aborted ? 'info' : 'error']('request failed', { where, error });
    const lag = watchLoopLag();
    const options: ApiOptions & { ready(): boolean } = {
      version: VERSION,
      masterId,
      uptimeMs: () => performance.now() - startedAt,
      closing: closing.signal,
      report,
      ready: () => !closing.signal.aborted,
      processMetrics: () => processMetrics(lag, () => engine.waitingOffers()),
    };
    const app = createMasterApp(engine, options);
    mountStatic(app, new URL('../static/', import.meta.url));
    // Lanes are known before the first offer arrives.
    await engine.lanes.refresh();
    server = await serve({
      host: config.host,
      port: config.port,
      routes: masterRoutes(engine, options),
      services: [...MASTER_SERVICES],
      interceptors: apiInterceptors(options),
      router: refusalsBelow(),
      fetch: app.fetch as (request: Request) => Promise<Response>,
      health: createHealth(MASTER_SERVICES.map((s) => s.typeName)),
      compressAnswers: config.compressAnswers,
      corsOrigins: config.corsOrigins.length > 0 ? [...config.corsOrigins] : 'none',
      onError: report,
    });
    engine.start();
    log.info('master serves', { master_id: masterId, url: server.url, schema_version: database.schemaVersion });

    let resolveStopped!: (why: Error | null) => void;
    const stopped = new Promise<Error | null>((resolve) => {
      resolveStopped = resolve;
    });
    let stopping: Promise<void> | null = null;
    const stop = (why: Error | null): Promise<void> => {
      stopping ??= (async () => {
        log.info('master stops', { master_id: masterId, because: why?.message });
        closing.abort();
        await server!.close({ graceMs: GRACE_MS });
        await engine.stop();
        lag.stop();
        await number.release(lastId).catch((error) => log.warn('node number not given back', { error }));
        await pools.end();
        if (database.embedded && !database.embedded.adopted) await database.embedded.stop({ mode: 'fast' });
        log.info('master stopped', { master_id: masterId });
        resolveStopped(why);
      })();
      return stopping;
    };
    number.onLost((why) => {
      log.error('master gives up', { why });
      void stop(new Error(why));
    });
    return {
      id: masterId,
      url: server.url,
      port: server.port,
      databaseUrl: database.url,
      engine,
      stop: () => stop(null),
      stopped,
    };
  } catch (error) {
    await server?.close({ graceMs: 0 });
    await pools.end();
    if (database.embedded && !database.embedded.adopted) await database.embedded.stop({ mode: 'fast' });
    throw error;
  }
}

function processMetrics(lag: LoopLag, waitingOffers: () => number) {
  const cpu = process.cpuUsage();
  return [
    {
      name: 'baton_master_cpu_seconds_total',
      value: (cpu.user + cpu.system) / 1e6,
      help: 'CPU time of this master.',
      type: 'counter' as const,
    },
    {
      name: 'baton_master_memory_bytes',
      value: process.memoryUsage.rss(),
      help: 'Resident memory of this master.',
      type: 'gauge' as const,
    },
    {
      name: 'baton_master_loop_lag_p99_seconds',
      value: lag.p99(),
      help: 'Delay of the event loop, 99th percentile since the start.',
      type: 'gauge' as const,
    },
    {
      name: 'baton_offers_waiting',
      value: waitingOffers(),
      help: 'Workers that wait for work at this master.',
      type: 'gauge' as const,
    },
  ];
}
