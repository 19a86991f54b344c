import type { EmbeddedPostgresError } from '@baton/postgres';
import { type CliConfig, postgresDataDir } from '../config.ts';
import { CliFailure, EXIT, usageError } from '../exit.ts';

/** The embedded Postgres's directory. Throws a usage failure when DATABASE_URL names another Postgres. */
export function embeddedDataDir(config: CliConfig): string {
  if (config.databaseUrl.value !== '') {
    throw usageError(
      'DATABASE_URL is set: this command is for the embedded Postgres',
      'use pg_dump and pg_restore for a Postgres of your own, or unset DATABASE_URL',
    );
  }
  return postgresDataDir(config.home.value);
}

// What to type, where the package can only say what to do.
const HINTS: Readonly<Record<string, string>> = {
  RUNNING: 'stop it first: baton stop',
  NOT_EMPTY: 'pass --force to replace what is there',
};

/** What the embedded Postgres refused, as the command's failure. */
export function databaseFailure(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown.name !== 'EmbeddedPostgresError') return thrown;
  const { reason, message, hint } = thrown as EmbeddedPostgresError;
  const said = HINTS[reason] ?? hint;
  return new CliFailure(EXIT.failed, `${message} (${reason})`, said === undefined ? [] : [said], { cause: thrown });
}
