import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { helpText } from '../flags.ts';

export const command = buildCommand<Record<never, never>, [], CliContext>({
  loader: async () => (await import('./start.ts')).start,
  parameters: {},
  docs: {
    brief: 'Run a master in this terminal',
    fullDescription: helpText(
      'Run a master in this terminal; Ctrl-C ends it gracefully.',
      ['baton master', 'BATON_PORT=0 DATABASE_URL=postgres://baton@db/baton baton master'],
      'It is set up by its environment variables; without DATABASE_URL it starts an embedded Postgres.',
    ),
  },
});
