import type { Sql } from './connection.ts';

export interface Migration {
  /** From the file's name: 0001_foundation.sql is 1. */
  version: number;
  name: string;
  /** Plain SQL; runs in one transaction together with its entry in baton_migrations. */
  sql: string;
  /** SHA-256 of the text, hex. */
  hash: string;
}

export interface MigrationResult {
  /** Versions that were applied now. */
  applied: number[];
  /** Version of the schema afterwards. */
  version: number;
}

/** The database was migrated by a newer Baton that does not work beside this one, or a migration that was applied has been edited since. */
export class SchemaMismatch extends Error {
  override readonly name = 'SchemaMismatch';
}

/** Any number that all Batons agree on; "bato" in ASCII. */
const LOCK = 0x6261746f;

const LEDGER = `
create table if not exists public.baton_migrations (
  version integer primary key,
  name text not null,
  hash text not null,
  applied_at timestamptz not null default clock_timestamp()
);
alter table public.baton_migrations add column if not exists works_with integer;
comment on table public.baton_migrations is 'Baton''s migrations that were applied to this database.';
comment on column public.baton_migrations.version is 'From the file''s name.';
comment on column public.baton_migrations.name is 'File name.';
comment on column public.baton_migrations.hash is 'SHA-256 of its text, hex.';
comment on column public.baton_migrations.applied_at is 'When.';
comment on column public.baton_migrations.works_with is 'A Baton that knows the migrations up to this one works with this one too; null: it does not.';`;

const DEADLOCK = '40P01';
const MOST_TRIES = 20;

/** The line of a migration that says up to which version back a Baton goes on working with it. */
const WORKS_WITH = /^-- works with: (\d+)$/m;

/**
 * Brings the schema up to date. Safe when several masters start at once: a session lock on one connection serializes them, and
 * whoever comes second finds nothing to do. Each migration is one transaction of its own (a multi-statement simple query), so a
 * failure leaves the ones before it applied and itself undone.
 *
 * What a newer Baton has migrated is taken where that migration says that this version works with it: versions N and N−1 run side by
 * side, and either may be restarted. (Version 1 asks for no such word: it goes on running, and is refused when it is restarted.)
 *
 * @param sql a pool of exactly one connection, so that the lock and the work share it (the driver's `reserve` never answers on a
 *   fresh connection when `fetch_types` is off)
 * @throws SchemaMismatch
 */
export async function migrate(sql: Sql, migrations: readonly Migration[]): Promise<MigrationResult> {
  if (sql.options.max !== 1) throw new RangeError('migrate needs a pool of exactly one connection');
  await sql.unsafe('set lock_timeout = 0; set statement_timeout = 0');
  await sql.unsafe(`select pg_advisory_lock(${LOCK})`);
  try {
    await sql.unsafe(`begin; ${LEDGER} commit`);
    const done = new Map(
      (await sql.unsafe('select version, name, hash, works_with from public.baton_migrations')).map((r) => [
        Number(r.version),
        r,
      ]),
    );
    const known = new Map(migrations.map((m) => [m.version, m]));
    const newest = Math.max(0, ...known.keys());
    for (const [version, row] of done) {
      const migration = known.get(version);
      if (!migration) {
        if (version > newest && row.works_with !== null && (row.works_with as number) <= newest) continue;
        throw new SchemaMismatch(
          `the database has migration ${version} (${row.name}), which this Baton (up to ${newest}) does not know or work with: start a newer Baton`,
        );
      }
      if (migration.hash !== row.hash)
        throw new SchemaMismatch(
          `migration ${version} (${row.name}) was applied with other text: restore the file, or start from an empty database`,
        );
    }
    const applied: number[] = [];
    for (const migration of [...migrations].sort((a, b) => a.version - b.version)) {
      if (done.has(migration.version)) continue;
      const worksWith = WORKS_WITH.exec(migration.sql)?.[1] ?? 'null';
      const entry = `insert into public.baton_migrations (version, name, hash, works_with) values (${migration.version}, '${migration.name.replaceAll("'", "''")}', '${migration.hash}', ${worksWith})`;
      for (let tries = 1; ; tries++) {
        try {
          await sql.unsafe(`begin;\n${migration.sql}\n;${entry};\ncommit`);
          break;
        } catch (error) {
          await sql.unsafe('rollback');
          // Masters of the version before go on working meanwhile, and take their locks in an order of their own.
          if ((error as { code?: string }).code !== DEADLOCK || tries >= MOST_TRIES) throw error;
        }
      }
      applied.push(migration.version);
    }
    return { applied, version: Math.max(newest, ...done.keys()) };
  } finally {
    await sql.unsafe(`select pg_advisory_unlock(${LOCK})`);
    await sql.unsafe('reset lock_timeout; reset statement_timeout');
  }
}
