import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { commonFlags, helpText, outputAlias } from '../flags.ts';
import type { DrainFlags, ListFlags } from './worker-flags.ts';

const start = buildCommand<Record<never, never>, [], CliContext>({
  loader: async () => (await import('./start.ts')).start,
  parameters: {},
  docs: {
    brief: 'Run a worker in this terminal',
    fullDescription: helpText(
      'Run a worker in this terminal; Ctrl-C drains it and ends it. `baton worker` alone does the same.',
      ['baton worker', 'BATON_URL=http://10.0.0.5:7800 baton worker start'],
      'It is set up by its environment variables.',
    ),
  },
});

const list = buildCommand<ListFlags, [], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: {
    flags: {
      ...commonFlags,
      all: { kind: 'boolean', default: false, withNegated: false, brief: 'Also those that left or were lost' },
    },
    aliases: { ...outputAlias, a: 'all' },
  },
  docs: {
    brief: 'List workers',
    fullDescription: helpText('List the workers that the master knows.', [
      'baton worker list',
      'baton worker list --all',
    ]),
  },
});

const drain = buildCommand<DrainFlags, [string], CliContext>({
  loader: async () => (await import('./drain.ts')).drain,
  parameters: {
    flags: {
      ...commonFlags,
      reason: { kind: 'parsed', parse: String, optional: true, brief: 'Why, in words', placeholder: 'TEXT' },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'The name of a worker', parse: String, placeholder: 'NAME' }],
    },
  },
  docs: {
    brief: 'Tell a worker to take no new work, finish and leave',
    fullDescription: helpText('Tell a worker to take no new work, finish what it holds, and leave.', [
      'baton worker drain worker-1 --reason "kernel update"',
    ]),
  },
});

export const command = buildRouteMap<'start' | 'list' | 'drain', CliContext>({
  routes: { start, list, drain },
  defaultCommand: 'start',
  docs: { brief: 'Run, list and drain workers' },
});
