import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { commonFlags, connectionFlags, helpText, idArgument, outputAlias, wholeNumber } from '../flags.ts';
import type { GetFlags, ListFlags, PutFlags } from './artifact-flags.ts';

const list = buildCommand<ListFlags, [string], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: {
    flags: {
      ...commonFlags,
      limit: { kind: 'parsed', parse: wholeNumber(1, 100_000), default: '100', brief: 'At most so many' },
      task: { kind: 'boolean', default: false, withNegated: false, brief: 'The id is that of a task' },
      node: { kind: 'parsed', parse: String, optional: true, brief: 'Of this node alone', placeholder: 'NODE' },
    },
    aliases: { ...outputAlias, n: 'limit' },
    positional: { kind: 'tuple', parameters: [{ brief: 'The id of a run', parse: idArgument, placeholder: 'RUN' }] },
  },
  docs: {
    brief: 'List the files that a run has produced',
    fullDescription: helpText('List the files that the nodes of a run, or a task, have produced.', [
      'baton artifact list 42',
      'baton artifact list 42 --node prepare -o json',
      'baton artifact list 43 --task',
    ]),
  },
});

const get = buildCommand<GetFlags, [string, string, string], CliContext>({
  loader: async () => (await import('./get.ts')).get,
  parameters: {
    flags: {
      ...connectionFlags,
      output: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'Write it to this file; default stdout',
        placeholder: 'FILE',
      },
      item: {
        kind: 'parsed',
        parse: wholeNumber(0, 1_000_000),
        optional: true,
        brief: 'Of this item, where the node runs once for each',
      },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'The id of a run', parse: idArgument, placeholder: 'RUN' },
        { brief: 'The node that produced it', parse: String, placeholder: 'NODE' },
        { brief: 'Its name', parse: String, placeholder: 'NAME' },
      ],
    },
  },
  docs: {
    brief: 'Download a file that a node has produced',
    fullDescription: helpText(
      'Download a file that a node of a run has produced, and verify it.',
      ['baton artifact get 42 prepare report.csv -o report.csv'],
      'The file takes its name when it is whole.',
    ),
  },
});

const put = buildCommand<PutFlags, [string], CliContext>({
  loader: async () => (await import('./put.ts')).put,
  parameters: {
    flags: {
      ...commonFlags,
      name: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'What it is called; default the name of the file',
        placeholder: 'NAME',
      },
    },
    aliases: outputAlias,
    positional: { kind: 'tuple', parameters: [{ brief: 'A file', parse: String, placeholder: 'FILE' }] },
  },
  docs: {
    brief: 'Upload a file, to be handed to tasks',
    fullDescription: helpText(
      'Upload a file of up to 10 GiB and print its SHA-256; with -o json, what names it in inputs of runs.',
      [
        'baton artifact put model.bin',
        'baton task submit evaluate --artifact model=$(baton artifact put model.bin)',
        'baton run start evaluate.yaml --input model="$(baton artifact put model.bin -o json)"',
      ],
      'What no task names is deleted a day after its last use.',
    ),
  },
});

export const command = buildRouteMap<'list' | 'get' | 'put', CliContext>({
  routes: { list, get, put },
  docs: { brief: 'Files that tasks produce and hand on' },
});
