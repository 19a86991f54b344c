import { createRetention, type RetentionReport, silentLog } from '@baton/engine';
import { openPools } from '@baton/store';
import type { Logger } from '@baton/telemetry';
import type { MasterConfig } from './config.ts';
import { openDatabase } from './database.ts';

/**
 * Drops what is older than history, now, whether masters run or not: yours by DATABASE_URL, else the embedded Postgres of this home,
 * which is started if it does not run. Like a master it migrates first.
 *
 * @throws SchemaMismatch, EmbeddedPostgresError
 */
export async function dropHistory(
  config: MasterConfig,
  log: Logger,
  options: { dryRun: boolean },
): Promise<RetentionReport> {
  const database = await openDatabase(config.databaseUrl, config.home, log);
  const pools = openPools(database.url, { hot: 1, lease: 1, api: 1 });
  const neverMadeHere = { next: () => '0' };
  try {
    const retention = createRetention({
      pools,
      ids: neverMadeHere,
      settings: config.settings,
      now: Date.now,
      random: Math.random,
      log: silentLog,
    });
    return await retention.run(options);
  } finally {
    await pools.end();
    if (database.embedded && !database.embedded.adopted) await database.embedded.stop({ mode: 'fast' });
  }
}
