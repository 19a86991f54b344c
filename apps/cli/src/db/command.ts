import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { helpText, outputAlias, wholeNumber } from '../flags.ts';
import { type DatabaseFlags, databaseFlags, type RestoreFlags, type RetentionFlags } from './db-flags.ts';

const file = { brief: 'The backup, a .tar.gz', parse: String, placeholder: 'FILE' };

const backup = buildCommand<DatabaseFlags, [string], CliContext>({
  loader: async () => (await import('./backup.ts')).backup,
  parameters: { flags: databaseFlags, aliases: outputAlias, positional: { kind: 'tuple', parameters: [file] } },
  docs: {
    brief: 'Write a backup of the embedded Postgres',
    fullDescription: helpText(
      'Write a backup of the embedded Postgres in BATON_HOME, running or stopped, to a file.',
      ['baton db backup baton-2026-11-22.tar.gz'],
      'Everything that was acknowledged before the command is in it. For a Postgres of your own use pg_dump.',
    ),
  },
});

const restore = buildCommand<RestoreFlags, [string], CliContext>({
  loader: async () => (await import('./restore.ts')).restore,
  parameters: {
    flags: {
      ...databaseFlags,
      force: { kind: 'boolean', default: false, withNegated: false, brief: 'Replace the data that is there' },
    },
    aliases: outputAlias,
    positional: { kind: 'tuple', parameters: [file] },
  },
  docs: {
    brief: 'Put a backup in the place of the embedded Postgres',
    fullDescription: helpText(
      'Put a backup in the place of the embedded Postgres in BATON_HOME, for the next start.',
      ['baton stop', 'baton db restore baton-2026-11-22.tar.gz --force'],
      'The backup is unpacked and verified first. A server that runs is never replaced.',
    ),
  },
});

const retention = buildCommand<RetentionFlags, [], CliContext>({
  loader: async () => (await import('./retention.ts')).retention,
  parameters: {
    flags: {
      ...databaseFlags,
      dryRun: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Say what would be dropped, and drop nothing',
      },
      days: {
        kind: 'parsed',
        parse: wholeNumber(1, 36_500),
        optional: true,
        brief: 'How much history to keep; default BATON_HISTORY_DAYS, else 30',
        placeholder: 'N',
      },
    },
    aliases: outputAlias,
  },
  docs: {
    brief: 'Drop what is older than history, now',
    fullDescription: helpText(
      'Drop ended tasks and runs, their logs and checkpoints, and events that are older than history, week by week. What lives stays.',
      ['baton db retention --dry-run', 'baton db retention', 'baton db retention --days 7 -o json'],
      'Masters do this once a day by themselves. Works on DATABASE_URL, or on the embedded Postgres of BATON_HOME.\nEnds with 1 when some of it was in use for too long; try again later.',
    ),
  },
});

export const command = buildRouteMap<'backup' | 'restore' | 'retention', CliContext>({
  routes: { backup, restore, retention },
  docs: { brief: 'Back up and restore the embedded Postgres; drop old history' },
});
