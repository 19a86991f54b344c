import type { NodeStateName, RunStateName } from '@baton/client';
import { buildCommand, buildRouteMap, type FlagParametersForType } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, helpText, idArgument, outputAlias, wholeNumber } from '../flags.ts';
import type { GetFlags, ItemsFlags, ListFlags, ReasonFlags, RetryFlags, SignalFlags, StartFlags } from './run-flags.ts';

const RUN_STATES = [
  'pending',
  'running',
  'waiting',
  'succeeded',
  'failed',
  'cancelled',
] as const satisfies RunStateName[];

const ITEM_STATES = ['pending', 'running', 'succeeded', 'failed', 'cancelled'] as const satisfies NodeStateName[];

const id = { brief: 'The id of a run', parse: idArgument, placeholder: 'RUN' };
const oneId = { kind: 'tuple', parameters: [id] } as const;

const startFlags: FlagParametersForType<StartFlags, CliContext> = {
  ...commonFlags,
  watch: { kind: 'boolean', default: false, withNegated: false, brief: 'Stay until the end and show its progress' },
  input: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A field of the input, key=value; the value is JSON or a text',
    placeholder: 'K=V',
  },
  inputJson: { kind: 'parsed', parse: String, optional: true, brief: 'The whole input as JSON', placeholder: 'TEXT' },
  key: {
    kind: 'parsed',
    parse: String,
    optional: true,
    brief: 'Idempotency key: the same one gives the same run',
    placeholder: 'KEY',
  },
  release: {
    kind: 'parsed',
    parse: String,
    optional: true,
    brief: 'Of a durable function: the version of its code',
    placeholder: 'VERSION',
  },
  standalone: {
    kind: 'boolean',
    default: false,
    withNegated: false,
    brief: 'Without a server: master and worker in this process, until the end of the run',
  },
  tasks: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'With --standalone: a module that exports tasks',
    placeholder: 'FILE',
  },
};

const start = buildCommand<StartFlags, [string], CliContext>({
  loader: async () => (await import('./start.ts')).start,
  parameters: {
    flags: startFlags,
    aliases: { ...outputAlias, w: 'watch', i: 'input' },
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'A workflow file, or the name of a stored workflow', parse: String, placeholder: 'FILE|NAME' },
      ],
    },
  },
  docs: {
    brief: 'Start a run of a workflow',
    fullDescription: helpText(
      'Start a run of a workflow file, or of a stored workflow by its name.',
      [
        'baton run start pipeline.yaml --watch',
        'baton run start energy-pipeline --input year=2017 --input region=Iowa',
        'baton run start energy-pipeline --key monday -o json',
        'baton run start report.yaml --standalone --tasks tasks.ts',
      ],
      'With --watch it ends with 0 when the run succeeded and with 1 when it failed or was cancelled. --standalone does the same, and keeps ' +
        'what it stores where `baton up` does (BATON_HOME): a run that was interrupted goes on in the next process there.',
    ),
  },
});

const list = buildCommand<ListFlags, [], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: {
    flags: {
      ...commonFlags,
      state: { kind: 'enum', values: RUN_STATES, variadic: ',', optional: true, brief: 'Only these states' },
      workflow: { kind: 'parsed', parse: String, optional: true, brief: 'Only of this workflow', placeholder: 'NAME' },
      limit: { kind: 'parsed', parse: wholeNumber(1, 100_000), default: '50', brief: 'At most so many' },
    },
    aliases: { ...outputAlias, s: 'state', n: 'limit' },
  },
  docs: {
    brief: 'List runs, newest first',
    fullDescription: helpText('List runs, newest first.', [
      'baton run list',
      'baton run list --state failed,cancelled --workflow energy-pipeline',
    ]),
  },
});

const get = buildCommand<GetFlags, [string], CliContext>({
  loader: async () => (await import('./get.ts')).get,
  parameters: {
    flags: {
      ...commonFlags,
      mermaid: { kind: 'boolean', default: false, withNegated: false, brief: 'As a Mermaid flowchart' },
    },
    aliases: outputAlias,
    positional: oneId,
  },
  docs: {
    brief: 'Show a run and its nodes',
    fullDescription: helpText('Show a run and its nodes.', [
      'baton run get 42',
      'baton run get 42 -o json',
      'baton run get 42 --mermaid',
    ]),
  },
});

const watch = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./watch.ts')).watch,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneId },
  docs: {
    brief: 'Follow a run until its end',
    fullDescription: helpText(
      'Follow a run until its end: a live table on a terminal, a line for each change elsewhere.',
      ['baton run watch 42', 'baton run watch 42 -o json'],
      'Ends with 0 when the run succeeded and with 1 when it failed or was cancelled. -o json is one object a line.',
    ),
  },
});

const cancel = buildCommand<ReasonFlags, [string], CliContext>({
  loader: async () => (await import('./cancel.ts')).cancel,
  parameters: {
    flags: {
      ...commonFlags,
      reason: { kind: 'parsed', parse: String, optional: true, brief: 'Why, in words', placeholder: 'TEXT' },
    },
    aliases: outputAlias,
    positional: oneId,
  },
  docs: {
    brief: 'Cancel a run',
    fullDescription: helpText('Cancel the running nodes of a run and skip the rest.', [
      'baton run cancel 42 --reason "wrong year"',
    ]),
  },
});

const signal = buildCommand<SignalFlags, [string, string], CliContext>({
  loader: async () => (await import('./signal.ts')).signal,
  parameters: {
    flags: {
      ...commonFlags,
      data: { kind: 'parsed', parse: String, optional: true, brief: 'What it carries, as JSON', placeholder: 'TEXT' },
      key: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'Idempotency key: the same one for the same run is the same signal',
        placeholder: 'KEY',
      },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [id, { brief: 'What the run waits for', parse: String, placeholder: 'NAME' }],
    },
  },
  docs: {
    brief: 'Send a durable function a signal',
    fullDescription: helpText('Send a run of a durable function a signal. It is kept until the run waits for it.', [
      'baton run signal 42 approved',
      `baton run signal 42 approved --data '{"by": "Ada"}'`,
    ]),
  },
});

const journal = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./journal.ts')).journal,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneId },
  docs: {
    brief: 'Show what a durable function has done and waits for',
    fullDescription: helpText('Show what a durable function has done and waits for, in the order of its code.', [
      'baton run journal 42',
      'baton run journal 42 -o json',
    ]),
  },
});

const items = buildCommand<ItemsFlags, [string, string], CliContext>({
  loader: async () => (await import('./items.ts')).items,
  parameters: {
    flags: {
      ...commonFlags,
      state: { kind: 'enum', values: ITEM_STATES, variadic: ',', optional: true, brief: 'Only these states' },
      limit: { kind: 'parsed', parse: wholeNumber(1, 100_000), default: '50', brief: 'At most so many' },
    },
    aliases: { ...outputAlias, s: 'state', n: 'limit' },
    positional: {
      kind: 'tuple',
      parameters: [id, { brief: 'A node that runs once for each item', parse: String, placeholder: 'NODE' }],
    },
  },
  docs: {
    brief: 'List the items of a node',
    fullDescription: helpText('List the items of a node with for_each or matrix, those that were started.', [
      'baton run items 42 map',
      'baton run items 42 map --state failed',
    ]),
  },
});

const retry = buildCommand<RetryFlags, [string], CliContext>({
  loader: async () => (await import('./retry.ts')).retry,
  parameters: {
    flags: {
      ...commonFlags,
      from: {
        kind: 'parsed',
        parse: String,
        variadic: ',',
        optional: true,
        brief: 'From these nodes on, or these steps of a durable function: names or numbers of its journal',
        placeholder: 'NODE',
      },
    },
    aliases: outputAlias,
    positional: oneId,
  },
  docs: {
    brief: 'Go on with a run that failed or was cancelled',
    fullDescription: helpText(
      'Go on with a run that failed or was cancelled: what had succeeded is kept.',
      ['baton run retry 42', 'baton run retry 42 --from charge'],
      'With --from these nodes run again and all that follows them, also where they had succeeded.',
    ),
  },
});

export const command = buildRouteMap<
  'start' | 'list' | 'get' | 'items' | 'watch' | 'cancel' | 'retry' | 'signal' | 'journal',
  CliContext
>({
  routes: { start, list, get, items, watch, cancel, retry, signal, journal },
  docs: { brief: 'Start, follow and repair runs of workflows' },
});
