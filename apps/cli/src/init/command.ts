import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { helpText } from '../flags.ts';
import type { InitFlags } from './init-flags.ts';

export const command = buildCommand<InitFlags, [string?], CliContext>({
  loader: async () => (await import('./init.ts')).init,
  parameters: {
    flags: {
      packages: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'A directory with the tarballs of client, worker and cli, to install these',
        placeholder: 'DIR',
      },
    },
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'Where; default the current directory', parse: String, optional: true, placeholder: 'DIR' },
      ],
    },
  },
  docs: {
    brief: 'Make a project with a task of your own',
    fullDescription: helpText(
      'Make a project with a task of your own: package.json, tasks.ts and README.md. Nothing is overwritten.',
      ['baton init my-project', 'baton init my-project --packages ./tarballs'],
      'Until the packages are published, --packages installs them from tarballs: node tools/pack.ts client|worker|cli --out DIR.',
    ),
  },
});
