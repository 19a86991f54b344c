/** Why the embedded PostgreSQL could not do what was asked. Stable; callers may branch on it. */
export type EmbeddedPostgresReason =
  | 'UNSUPPORTED_PLATFORM'
  | 'BINARIES_UNUSABLE'
  | 'DIRECTORY_IMPASSABLE'
  | 'NO_PERMISSION'
  | 'NOT_A_DATA_DIRECTORY'
  | 'VERSION_MISMATCH'
  | 'LOCK_TIMEOUT'
  | 'INITDB_FAILED'
  | 'START_FAILED'
  | 'START_TIMEOUT'
  | 'STOP_TIMEOUT'
  | 'PORT_TAKEN'
  | 'PASSWORD_REJECTED'
  | 'RUNNING'
  | 'NOT_EMPTY'
  | 'BACKUP_FAILED'
  | 'BACKUP_INVALID'
  | 'RESTORE_FAILED';

/** The one error this package throws on purpose. `hint` says what a person can do about it. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
  readonly reason: EmbeddedPostgresReason;
  readonly hint: string | undefined;

  constructor(reason: EmbeddedPostgresReason, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.hint = options.hint;
  }
}

/** The errno name of a system error ('ENOENT', 'EACCES', …), or undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
