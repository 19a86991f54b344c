import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, helpText, outputAlias } from '../flags.ts';

const show = buildCommand<CommonFlags, [], CliContext>({
  loader: async () => (await import('./show.ts')).show,
  parameters: { flags: commonFlags, aliases: outputAlias },
  docs: {
    brief: 'Show every setting, its value and where it came from',
    fullDescription: helpText('Show every setting, its value and where it came from: default, env, file or flag.', [
      'baton config show',
      'BATON_NAMESPACE=tests baton config show -o json',
    ]),
  },
});

export const command = buildRouteMap<'show', CliContext>({
  routes: { show },
  docs: { brief: 'Show the settings' },
});
