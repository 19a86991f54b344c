import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { EmbeddedPostgresError } from './errors.ts';

/** The role that owns the cluster, and the database that Baton uses. */
export const SUPERUSER = 'baton';
export const DATABASE = 'baton';

export interface Address {
  readonly port: number;
  readonly password: string;
  readonly user?: string;
  readonly database?: string;
}

export function urlOf({ port, password, user = SUPERUSER, database = DATABASE }: Address): string {
  const encoded = [user, password, database].map(encodeURIComponent);
  return `postgres://${encoded[0]}:${encoded[1]}@127.0.0.1:${port}/${encoded[2]}`;
}

/**
 * One administrative session, closed afterwards whatever happens. `connectTimeoutMs` bounds a server that hangs.
 * postgres.js replaces a session that was lost between two statements; a body that keeps state in it must notice.
 */
export async function withSession<T>(
  address: Address,
  body: (sql: postgres.Sql) => Promise<T>,
  connectTimeoutMs = 5_000,
): Promise<T> {
  const sql = postgres(urlOf(address), {
    max: 1,
    connect_timeout: connectTimeoutMs / 1000,
    fetch_types: false,
    max_lifetime: null,
    onnotice: () => {},
    connection: { application_name: 'baton-postgres' },
  });
  try {
    return await body(sql);
  } finally {
    await sql.end({ timeout: 1 }).catch(() => {});
  }
}

/**
 * Waits until the server takes our password and answers a query.
 * @returns the server's version, e.g. '18.4'.
 * @throws EmbeddedPostgresError PASSWORD_REJECTED at once, START_TIMEOUT at the deadline; what `check` throws.
 */
export async function waitUntilAnswers(
  address: Address,
  deadline: number,
  check: () => Promise<void>,
): Promise<string> {
  for (;;) {
    try {
      const remainingMs = Math.max(1, deadline - performance.now());
      return await withSession(
        { ...address, database: 'postgres' },
        async (sql) => String((await sql`SHOW server_version`)[0]?.server_version),
        Math.min(5_000, remainingMs),
      );
    } catch (error) {
      if ((error as { code?: string }).code === '28P01') {
        throw new EmbeddedPostgresError(
          'PASSWORD_REJECTED',
          `the server on port ${address.port} refuses our password`,
          {
            hint: 'stop it, remove the password file beside the data and start again: a new password is set then',
            cause: error,
          },
        );
      }
      await check();
      if (performance.now() > deadline) {
        throw new EmbeddedPostgresError('START_TIMEOUT', `the server on port ${address.port} does not answer`, {
          hint: 'it may still be recovering (its log tells) and is left running: start again to join it',
          cause: error,
        });
      }
      await sleep(25);
    }
  }
}
