import { type Migration, migrate, openPools, openSql, readEvents } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import { driveLifeCycle } from '@baton/store/testing';
import { startTestPostgres, testDatabase } from '@baton/testkit';
import { describe, expect, it } from 'vitest';
import { findBinaries, startInstalled, VersionMissing } from './installed-server.ts';

/** The versions that Baton is for; the last is the embedded one. */
const SUPPORTED = [15, 16, 17, 18];
const EMBEDDED = 18;
const mayInstall = process.env.BATON_TEST_POSTGRES_ALL === '1';

async function start(major: number): Promise<{ url: string } & AsyncDisposable> {
  if (major !== EMBEDDED) return startInstalled(await findBinaries(major, { mayInstall }));
  const server = await startTestPostgres();
  return { url: server.url, [Symbol.asyncDispose]: () => server.stop() };
}

describe.each(SUPPORTED)('PostgreSQL %i', (major) => {
  it('takes the migrations and carries tasks through their life', { timeout: 300_000 }, async ({ skip }) => {
    let server: Awaited<ReturnType<typeof start>>;
    try {
      server = await start(major);
    } catch (error) {
      if (!(error instanceof VersionMissing)) throw error;
      console.warn(`PostgreSQL ${major}: NOT RUN, ${error.message}`);
      return skip(error.message);
    }
    await using _ = server;
    const { url } = await testDatabase({ adminUrl: server.url });

    const migrations: Migration[] = loadMigrations();
    const masters = [1, 2, 3].map(() => openSql(url, { max: 1 }));
    const applied = (await Promise.all(masters.map((sql) => migrate(sql, migrations)))).map((r) => r.applied.length);
    expect(applied.sort()).toEqual([0, 0, migrations.length]);
    await Promise.all(masters.map((sql) => sql.end({ timeout: 5 })));

    const pools = openPools(url, { hot: 1, lease: 1, api: 1 });
    const [{ version }] = (await pools.api.unsafe(
      `select current_setting('server_version_num')::integer as version`,
    )) as unknown as [{ version: number }];
    expect(Math.floor(version / 10_000)).toBe(major);
    // On the settings that a master plans its hot statements with.
    const report = await driveLifeCycle(pools.hot, { seed: major, steps: 250 });
    expect(report.completed).toBeGreaterThan(10);
    expect(report.stale).toBeGreaterThan(10);
    expect((await readEvents(pools.api, { xid: '0', id: '0' }, 1000)).length).toBeGreaterThan(100);
    const views = await pools.api.unsafe(`select viewname from pg_views where schemaname = 'baton'`);
    for (const { viewname } of views) await pools.api.unsafe(`select * from baton.${viewname} limit 5`);
    const [{ tasks }] = (await pools.api.unsafe('select count(*)::integer as tasks from baton.v_tasks')) as unknown as [
      { tasks: number },
    ];
    expect(tasks).toBe(report.tasks);
    await pools.end();
  });
});
