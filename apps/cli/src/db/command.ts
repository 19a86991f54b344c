import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { helpText, type OutputFlags, outputAlias, outputFlags } from '../flags.ts';
import type { RestoreFlags } from './db-flags.ts';

const file = { brief: 'The backup, a .tar.gz', parse: String, placeholder: 'FILE' };

const backup = buildCommand<OutputFlags, [string], CliContext>({
  loader: async () => (await import('./backup.ts')).backup,
  parameters: { flags: outputFlags, aliases: outputAlias, positional: { kind: 'tuple', parameters: [file] } },
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
      ...outputFlags,
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

export const command = buildRouteMap<'backup' | 'restore', CliContext>({
  routes: { backup, restore },
  docs: { brief: 'Back up and restore the embedded Postgres' },
});
