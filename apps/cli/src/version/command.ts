import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { helpText, type OutputFlags, outputAlias, outputFlags } from '../flags.ts';

export const command = buildCommand<OutputFlags, [], CliContext>({
  loader: async () => (await import('./show.ts')).show,
  parameters: { flags: outputFlags, aliases: outputAlias },
  docs: {
    brief: 'Print the version',
    fullDescription: helpText('Print the version of this command and of Node.', [
      'baton version',
      'baton version -o json',
    ]),
  },
});
