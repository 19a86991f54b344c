import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { helpText, outputAlias, outputFlags, wholeNumber } from '../flags.ts';
import type { UpFlags } from './up-flags.ts';

export const command = buildCommand<UpFlags, [], CliContext>({
  loader: async () => (await import('./up.ts')).up,
  parameters: {
    flags: {
      ...outputFlags,
      workers: { kind: 'parsed', parse: wholeNumber(0, 256), default: '2', brief: 'Worker processes' },
      tasks: {
        kind: 'parsed',
        parse: String,
        variadic: true,
        optional: true,
        brief: 'A module that exports tasks; the workers carry them out',
        placeholder: 'FILE',
      },
      port: {
        kind: 'parsed',
        parse: wholeNumber(0, 65_535),
        optional: true,
        brief: 'Where the master listens; 0 is any free port; default BATON_PORT or 7800',
        placeholder: 'N',
      },
      watch: { kind: 'boolean', default: false, withNegated: false, brief: 'Workers follow changes of the modules' },
    },
    aliases: { ...outputAlias, w: 'workers', t: 'tasks', p: 'port' },
  },
  docs: {
    brief: 'Bring everything up: Postgres, a master and workers',
    fullDescription: helpText(
      'Bring everything up in this terminal: an embedded Postgres (or yours, by DATABASE_URL), a master and workers.',
      [
        'baton up',
        'baton up --workers 4 --tasks tasks.ts --watch',
        'BATON_HOME=/srv/baton BATON_PORT=0 baton up -o json',
      ],
      'Data is kept in BATON_HOME. What dies is started again. Ctrl-C lets workers finish and ends everything; a second ' +
        'one ends it at once. With -o json, one line with the addresses is printed on stdout when everything is up.',
    ),
  },
});
