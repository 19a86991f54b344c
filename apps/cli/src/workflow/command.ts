import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, helpText, type OutputFlags, outputAlias, outputFlags } from '../flags.ts';

const file = { brief: 'A workflow in JSON or YAML', parse: String, placeholder: 'FILE' };

const validate = buildCommand<OutputFlags, [string], CliContext>({
  loader: async () => (await import('./validate.ts')).validate,
  parameters: {
    flags: outputFlags,
    aliases: outputAlias,
    positional: { kind: 'tuple', parameters: [file] },
  },
  docs: {
    brief: 'Report everything that is wrong with a workflow file',
    fullDescription: helpText(
      'Report everything that is wrong with a workflow file, at once, without a server.',
      ['baton workflow validate pipeline.yaml', 'baton workflow validate pipeline.json -o json'],
      'Ends with 1 when there are problems.',
    ),
  },
});

const apply = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./apply.ts')).apply,
  parameters: {
    flags: commonFlags,
    aliases: outputAlias,
    positional: { kind: 'tuple', parameters: [file] },
  },
  docs: {
    brief: 'Store a workflow under its name',
    fullDescription: helpText('Store a workflow under its name; a changed one becomes the next version.', [
      'baton workflow apply pipeline.yaml',
    ]),
  },
});

const list = buildCommand<CommonFlags, [], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: { flags: commonFlags, aliases: outputAlias },
  docs: {
    brief: 'List the stored workflows',
    fullDescription: helpText('List the stored workflows, each in its newest version.', [
      'baton workflow list',
      'baton workflow list -o json',
    ]),
  },
});

const schema = buildCommand<Record<never, never>, [], CliContext>({
  loader: async () => (await import('./schema.ts')).schema,
  parameters: {},
  docs: {
    brief: 'Print the JSON Schema of workflow files',
    fullDescription: helpText('Print the JSON Schema (draft 2020-12) of workflow files, for editors.', [
      'baton workflow schema > workflow.schema.json',
    ]),
  },
});

export const command = buildRouteMap<'validate' | 'apply' | 'list' | 'schema', CliContext>({
  routes: { validate, apply, list, schema },
  docs: { brief: 'Check, store and list workflows' },
});
