import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import {
  type CommonFlags,
  commonFlags,
  helpText,
  idArgument,
  type OutputFlags,
  outputAlias,
  outputFlags,
  wholeNumber,
} from '../flags.ts';
import type { ReplayFlags } from './replay.ts';
import type { ShowFlags } from './show.ts';

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

const show = buildCommand<ShowFlags, [string], CliContext>({
  loader: async () => (await import('./show.ts')).show,
  parameters: {
    flags: {
      ...commonFlags,
      mermaid: { kind: 'boolean', default: false, withNegated: false, brief: 'As a Mermaid flowchart' },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'A workflow file, or the name of a stored workflow', parse: String, placeholder: 'FILE|NAME' },
      ],
    },
  },
  docs: {
    brief: 'Show the nodes of a workflow',
    fullDescription: helpText('Show the nodes of a workflow file, or of a stored workflow in its newest version.', [
      'baton workflow show pipeline.yaml',
      'baton workflow show energy-pipeline --mermaid',
      'baton workflow show energy-pipeline -o json',
    ]),
  },
});

const versions = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./versions.ts')).versions,
  parameters: {
    flags: commonFlags,
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'The name of a stored workflow', parse: String, placeholder: 'NAME' }],
    },
  },
  docs: {
    brief: 'List the versions of a workflow',
    fullDescription: helpText('List the versions of a stored workflow, the newest first.', [
      'baton workflow versions energy-pipeline',
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

const replay = buildCommand<ReplayFlags, [string], CliContext>({
  loader: async () => (await import('./replay.ts')).replay,
  parameters: {
    flags: {
      ...commonFlags,
      run: {
        kind: 'parsed',
        parse: idArgument,
        variadic: true,
        optional: true,
        brief: 'Against this run',
        placeholder: 'RUN',
      },
      workflow: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'Against the newest runs of this workflow; default: of each that the module exports',
        placeholder: 'NAME',
      },
      last: { kind: 'parsed', parse: wholeNumber(1, 10_000), default: '20', brief: 'So many of them' },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'A module that exports workflows', parse: String, placeholder: 'MODULE' }],
    },
  },
  docs: {
    brief: 'Try changed code of durable functions against recorded runs',
    fullDescription: helpText(
      'Run the code of durable functions against the journals of runs, before it is deployed. Nothing is carried out: no step, no task.',
      [
        'baton workflow replay workflows.ts',
        'baton workflow replay workflows.ts --workflow order --last 100',
        'baton workflow replay workflows.ts --run 42',
      ],
      'Names the step at which code and journal differ, and ends with 1 when any does.',
    ),
  },
});

export const command = buildRouteMap<
  'validate' | 'apply' | 'list' | 'show' | 'versions' | 'schema' | 'replay',
  CliContext
>({
  routes: { validate, apply, list, show, versions, schema, replay },
  docs: { brief: 'Check, store and list workflows' },
});
