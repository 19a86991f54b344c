import type { FailureTypeName } from '@baton/client';
import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { commonFlags, durationMs, helpText, idArgument, outputAlias, wholeNumber } from '../flags.ts';
import type { DeadFlags, FailuresFlags, ResendFlags, StatsFlags } from './failure-flags.ts';

// Written out and not taken from the client, which is loaded only by commands that call a server. A test compares them.
export const FAILURE_TYPES = [
  'WORKER_CRASH',
  'NETWORK_ERROR',
  'EVALUATION_ERROR',
  'TASK_TIMEOUT',
  'OUT_OF_MEMORY',
  'GPU_ERROR',
  'UNKNOWN',
] as const satisfies FailureTypeName[];

const text = (brief: string, placeholder: string) =>
  ({ kind: 'parsed', parse: String, optional: true, brief, placeholder }) as const;
const time = (brief: string) =>
  ({ kind: 'parsed', parse: durationMs, optional: true, brief, placeholder: 'TIME' }) as const;
const types = (brief: string) =>
  ({ kind: 'enum', values: FAILURE_TYPES, variadic: ',', optional: true, brief }) as const;
const limit = { kind: 'parsed', parse: wholeNumber(1, 100_000), default: '50', brief: 'At most so many' } as const;

export const dead = buildCommand<DeadFlags, [], CliContext>({
  loader: async () => (await import('./dead.ts')).dead,
  parameters: {
    flags: {
      ...commonFlags,
      queue: text('Only of this queue', 'NAME'),
      kind: text('Only of this kind', 'KIND'),
      type: types('Only of these types'),
      all: { kind: 'boolean', default: false, withNegated: false, brief: 'Also those that were sent again' },
      limit,
    },
    aliases: { ...outputAlias, q: 'queue', k: 'kind', t: 'type', a: 'all', n: 'limit' },
  },
  docs: {
    brief: 'List tasks that failed for good',
    fullDescription: helpText('List tasks that failed for good and were not sent again, newest first.', [
      'baton task dead',
      'baton task dead --queue night --type OUT_OF_MEMORY,TASK_TIMEOUT',
      'baton task dead --all -o json',
    ]),
  },
});

export const resend = buildCommand<ResendFlags, string[], CliContext>({
  loader: async () => (await import('./resend.ts')).resend,
  parameters: {
    flags: {
      ...commonFlags,
      allDead: { kind: 'boolean', default: false, withNegated: false, brief: 'All that `baton task dead` lists' },
      again: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'With --all-dead: also those that were sent again themselves, and failed again',
      },
      queue: text('With --all-dead: only of this queue', 'NAME'),
      kind: text('With --all-dead: only of this kind', 'KIND'),
      type: types('With --all-dead: only of these types'),
      key: text('Another key sends them once more; default: once for all', 'KEY'),
    },
    aliases: { ...outputAlias, q: 'queue', k: 'kind', t: 'type' },
    positional: { kind: 'array', parameter: { brief: 'Ids of tasks', parse: idArgument, placeholder: 'TASK' } },
  },
  docs: {
    brief: 'Send ended tasks again',
    fullDescription: helpText(
      'Send ended tasks again: each becomes a new task that names the old one. Sending one twice gives the same new task.',
      [
        'baton task resend 42',
        'baton task resend 42 43 --key second-try',
        'baton task resend --all-dead --queue night',
      ],
      '--all-dead leaves out what has been sent again, and what was sent again and failed once more; --again takes the latter too.\nEnds with 1 when one of them was refused.',
    ),
  },
});

export const failures = buildCommand<FailuresFlags, [], CliContext>({
  loader: async () => (await import('./failures.ts')).failures,
  parameters: {
    flags: {
      ...commonFlags,
      worker: text('Only on this worker', 'NAME'),
      task: { kind: 'parsed', parse: idArgument, optional: true, brief: 'Only of this task', placeholder: 'TASK' },
      type: types('Only of these types'),
      since: time('Not older than: 10m, 2h'),
      limit,
    },
    aliases: { ...outputAlias, w: 'worker', t: 'type', s: 'since', n: 'limit' },
  },
  docs: {
    brief: 'List failed attempts',
    fullDescription: helpText('List every failed attempt, newest first.', [
      'baton task failures',
      'baton task failures --worker gpu-7 --type GPU_ERROR,WORKER_CRASH --since 2h',
      'baton task failures --task 42 -o json',
    ]),
  },
});

export const stats = buildCommand<StatsFlags, [], CliContext>({
  loader: async () => (await import('./stats.ts')).stats,
  parameters: {
    flags: { ...commonFlags, since: time('How far back: 10m, 24h; default 1h') },
    aliases: { ...outputAlias, s: 'since' },
  },
  docs: {
    brief: 'Count failures by type and worker',
    fullDescription: helpText(
      'Count what failed within the last time, by type and by worker, and what became of the tasks.',
      ['baton task stats', 'baton task stats --since 24h -o json'],
    ),
  },
});
