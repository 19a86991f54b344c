import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { durationMs, helpText, outputAlias, outputFlags } from '../flags.ts';
import type { StopFlags } from './stop-flags.ts';

export const command = buildCommand<StopFlags, [], CliContext>({
  loader: async () => (await import('./stop.ts')).stop,
  parameters: {
    flags: {
      ...outputFlags,
      grace: {
        kind: 'parsed',
        parse: durationMs,
        default: '60s',
        brief: 'How long it may take before everything is ended at once',
        placeholder: 'TIME',
      },
    },
    aliases: outputAlias,
  },
  docs: {
    brief: 'End what `baton up` started in this directory',
    fullDescription: helpText(
      'End what `baton up` started in BATON_HOME: workers finish what they hold, then the master and Postgres end.',
      ['baton stop', 'baton stop --grace 5s'],
      'Where the supervisor died, what it left behind is ended. Data is kept. Nothing there is no failure.',
    ),
  },
});
