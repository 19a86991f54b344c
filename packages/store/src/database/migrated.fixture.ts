import { testDatabase } from '@baton/testkit';
import { openSql, type Sql } from './connection.ts';

/** A migrated database of a test's own, with a pool on it. */
export interface MigratedDatabase extends AsyncDisposable {
  url: string;
  sql: Sql;
  drop(): Promise<void>;
}

export async function migratedDatabase(options: { max?: number } = {}): Promise<MigratedDatabase> {
  const database = await testDatabase({ migrated: true });
  const sql = openSql(database.url, { max: options.max ?? 4 });
  const drop = async () => {
    await sql.end({ timeout: 5 });
    await database.drop();
  };
  return { url: database.url, sql, drop, [Symbol.asyncDispose]: drop };
}
