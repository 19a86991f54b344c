import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, helpText, idArgument, outputAlias, wholeNumber } from '../flags.ts';
import type { GetFlags, ListFlags, PruneFlags } from './checkpoint-flags.ts';

const task = { brief: 'The id of a task', parse: idArgument, placeholder: 'TASK' } as const;
const number = (brief: string, placeholder: string) =>
  ({ brief, parse: wholeNumber(1, Number.MAX_SAFE_INTEGER), placeholder }) as const;

const list = buildCommand<ListFlags, [string], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: {
    flags: {
      ...commonFlags,
      limit: { kind: 'parsed', parse: wholeNumber(1, 100_000), default: '50', brief: 'At most so many' },
    },
    aliases: { ...outputAlias, n: 'limit' },
    positional: { kind: 'tuple', parameters: [task] },
  },
  docs: {
    brief: 'List the checkpoints of a task, newest first',
    fullDescription: helpText('List the checkpoints of a task, newest first.', [
      'baton checkpoint list 42',
      'baton checkpoint list 42 -o json',
    ]),
  },
});

const get = buildCommand<GetFlags, [string, number?], CliContext>({
  loader: async () => (await import('./get.ts')).get,
  parameters: {
    flags: {
      ...commonFlags,
      best: { kind: 'boolean', default: false, withNegated: false, brief: 'The one with the highest score' },
      file: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'Write its bytes to this file',
        placeholder: 'FILE',
      },
    },
    aliases: { ...outputAlias, f: 'file' },
    positional: {
      kind: 'tuple',
      parameters: [task, { ...number('Its number; default the newest', 'NUMBER'), optional: true }],
    },
  },
  docs: {
    brief: 'Show a checkpoint and what is in it',
    fullDescription: helpText(
      'Show the newest checkpoint of a task, the best, or one by its number.',
      [
        'baton checkpoint get 42',
        'baton checkpoint get 42 7 --file state.json',
        'baton checkpoint get 42 --best -o json',
      ],
      'JSON is printed; other bytes are only written to a file.',
    ),
  },
});

const compare = buildCommand<CommonFlags, [string, number, number], CliContext>({
  loader: async () => (await import('./compare.ts')).compare,
  parameters: {
    flags: commonFlags,
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [task, number('The number of one', 'A'), number('The number of the other', 'B')],
    },
  },
  docs: {
    brief: 'Show how two checkpoints of a task differ',
    fullDescription: helpText(
      'Show how two checkpoints of a task differ: size, score, metadata, and the values of JSON by their pointers.',
      ['baton checkpoint compare 42 3 7'],
    ),
  },
});

const remove = buildCommand<CommonFlags, [string, number], CliContext>({
  loader: async () => (await import('./delete.ts')).remove,
  parameters: {
    flags: commonFlags,
    aliases: outputAlias,
    positional: { kind: 'tuple', parameters: [task, number('Its number', 'NUMBER')] },
  },
  docs: {
    brief: 'Delete a checkpoint',
    fullDescription: helpText(
      'Delete a checkpoint.',
      ['baton checkpoint delete 42 3'],
      'The newest of a task that has not ended is refused: a new attempt would start from it.',
    ),
  },
});

const prune = buildCommand<PruneFlags, [string], CliContext>({
  loader: async () => (await import('./prune.ts')).prune,
  parameters: {
    flags: {
      ...commonFlags,
      keep: {
        kind: 'parsed',
        parse: wholeNumber(1, 10_000),
        optional: true,
        brief: 'Keep so many of the last; default as many as stay by themselves',
        placeholder: 'N',
      },
      dropBest: { kind: 'boolean', default: false, withNegated: false, brief: 'Do not keep the best one' },
    },
    aliases: outputAlias,
    positional: { kind: 'tuple', parameters: [task] },
  },
  docs: {
    brief: 'Keep the last few checkpoints and the best, delete the rest',
    fullDescription: helpText('Keep the last few checkpoints of a task and the best, delete the rest.', [
      'baton checkpoint prune 42 --keep 1',
      'baton checkpoint prune 42 --keep 1 --drop-best',
    ]),
  },
});

const stats = buildCommand<CommonFlags, [string?], CliContext>({
  loader: async () => (await import('./stats.ts')).stats,
  parameters: {
    flags: commonFlags,
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ ...task, brief: 'Of this task; default of the namespace', optional: true }],
    },
  },
  docs: {
    brief: 'Count checkpoints and their bytes',
    fullDescription: helpText('Count the checkpoints of a task, or of the namespace, and their bytes.', [
      'baton checkpoint stats 42',
      'baton checkpoint stats -o json',
    ]),
  },
});

export const command = buildRouteMap<'list' | 'get' | 'compare' | 'delete' | 'prune' | 'stats', CliContext>({
  routes: { list, get, compare, delete: remove, prune, stats },
  docs: { brief: 'Look at the checkpoints of tasks, and tidy them up' },
});
