import { migrate, openSql } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import { driveLifeCycle } from '@baton/store/testing';
import { startTestPostgres, testDatabase } from '@baton/testkit';

/**
 * Random sequences of operations on the model of the store and on Postgres, compared after each step, each seed on a database of its own.
 * @returns the exit code: 1 if any went different ways
 */
export async function compareWithSql(options: { from: number; seeds: number; steps: number }): Promise<number> {
  const { from, seeds, steps } = options;
  const server = await startTestPostgres();
  const taken: Record<string, number> = {};
  let failed = 0;
  try {
    for (let seed = from; seed < from + seeds; seed++) {
      await using database = await testDatabase({ adminUrl: server.url });
      const sql = openSql(database.url, { max: 1 });
      try {
        await migrate(sql, loadMigrations());
        const report = await driveLifeCycle(sql, { seed, steps });
        for (const [name, count] of Object.entries(report.steps)) taken[name] = (taken[name] ?? 0) + count;
      } catch (error) {
        failed++;
        console.log(`seed ${seed} failed; again: npm run simulate -- --sql --from ${seed} --seeds 1 --steps ${steps}`);
        console.log(`  ${(error as Error).name}: ${(error as Error).message}`);
      } finally {
        await sql.end({ timeout: 5 });
      }
    }
  } finally {
    await server.stop();
  }
  console.log(`${seeds} seeds of ${steps} steps on Postgres, ${failed} failed`);
  const list = Object.entries(taken).sort(([, a], [, b]) => b - a);
  console.log(list.map(([name, count]) => `${name} ${count}`).join(', '));
  return failed > 0 ? 1 : 0;
}
