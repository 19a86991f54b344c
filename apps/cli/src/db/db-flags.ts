import type { FlagParametersForType } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { type OutputFlags, outputFlags } from '../flags.ts';

export interface DatabaseFlags extends OutputFlags {
  /** Taken only to say that it means nothing here. */
  readonly url?: never;
}

export interface RetentionFlags extends DatabaseFlags {
  readonly dryRun: boolean;
  readonly days?: number;
}

export interface RestoreFlags extends DatabaseFlags {
  readonly force: boolean;
}

/** Of commands that work on the database itself, with or without a master. */
export const databaseFlags: FlagParametersForType<DatabaseFlags, CliContext> = {
  ...outputFlags,
  url: {
    kind: 'parsed',
    parse: () => {
      // The hint of a usage error is not shown for what a flag's parser throws.
      throw usageError(
        'this command asks no master: it works on the database itself, that of DATABASE_URL or the embedded one of BATON_HOME',
      );
    },
    optional: true,
    hidden: true,
    brief: 'Not for these commands',
  },
};
