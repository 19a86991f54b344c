import type { EmbeddedPostgresError } from '@baton/postgres';
import { type CliConfig, postgresDataDir } from '../config.ts';
import { CliFailure, EXIT, type ExitCode, usageError } from '../exit.ts';

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

const EXIT_BY_REASON: Readonly<Record<string, ExitCode>> = { NOT_A_DATA_DIRECTORY: EXIT.notFound };

/** What the embedded Postgres refused, as the command's failure. */
export function databaseFailure(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown.name !== 'EmbeddedPostgresError') return thrown;
  const { reason, message, hint } = thrown as EmbeddedPostgresError;
  return new CliFailure(EXIT_BY_REASON[reason] ?? EXIT.failed, `${message} (${reason})`, hint ? [hint] : [], {
    cause: thrown,
  });
}
