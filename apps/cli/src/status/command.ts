import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, helpText, outputAlias } from '../flags.ts';

export const command = buildCommand<CommonFlags, [], CliContext>({
  loader: async () => (await import('./status.ts')).status,
  parameters: { flags: commonFlags, aliases: outputAlias },
  docs: {
    brief: 'Show how everything is',
    fullDescription: helpText(
      'Show the supervisor and Postgres of BATON_HOME, the health of the master part by part, and the workers.',
      ['baton status', 'baton status -o json', 'baton status --url http://10.0.0.5:7800'],
      'Ends with 0 when the master serves and is healthy, 1 when it is not healthy, 5 when it cannot be reached.',
    ),
  },
});
