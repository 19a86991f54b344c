import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, connectionFlags, helpText, outputAlias } from '../flags.ts';
import type { DrainFlags, HealthFlags, ListFlags, LogsFlags, ResetFlags, StartFlags } from './worker-flags.ts';

function minutes(value: string): number {
  const count = Number(value);
  if (!/^\d{1,4}$/.test(value) || count < 1 || count > 1440) {
    throw new SyntaxError(`${value} is no number of minutes from 1 to 1440`);
  }
  return count;
}

function recentLines(value: string): number {
  const count = Number(value);
  if (!/^\d{1,5}$/.test(value) || count > 10_000) {
    throw new SyntaxError(`${value} is no number of lines from 0 to 10000`);
  }
  return count;
}

function text<T extends string>(brief: string, placeholder: T) {
  return { kind: 'parsed', parse: String, optional: true, brief, placeholder } as const;
}

const start = buildCommand<StartFlags, [], CliContext>({
  loader: async () => (await import('./start.ts')).start,
  parameters: {
    flags: {
      ...connectionFlags,
      url: text('Where masters are; several of one Postgres by commas', 'URLS'),
      name: text('Its name, unique in the namespace', 'NAME'),
      slots: text('How many tasks at once', 'N'),
      classes: text('The classes of tasks it takes, by commas', 'LIST'),
      tags: text('Its tags, by commas', 'LIST'),
      queues: text('The queues it takes from, by commas', 'LIST'),
      tasks: text('Modules that export tasks, by commas', 'FILES'),
      watch: { kind: 'boolean', optional: true, withNegated: false, brief: 'Follow changes of those modules' },
      host: text('Where it listens', 'HOST'),
      port: text('The port where it listens', 'N'),
      simulatedGpus: text('GPUs that are declared and not there: 4xH100:80, or a JSON file', 'GPUS'),
    },
  },
  docs: {
    brief: 'Run a worker in this terminal',
    fullDescription: helpText(
      'Run a worker in this terminal; Ctrl-C drains it and ends it. `baton worker` alone does the same.',
      ['baton worker --tasks tasks.ts', 'BATON_URL=http://127.0.0.1:7800,http://127.0.0.1:7801 baton worker start'],
      'It is set up by its environment variables; flags win over them.',
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

const named = {
  kind: 'tuple',
  parameters: [{ brief: 'The name of a worker', parse: String, placeholder: 'NAME' }],
} as const;

const show = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./show.ts')).show,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: named },
  docs: {
    brief: 'Show one worker: what it has, and how its machine is',
    fullDescription: helpText('Show one worker, gone or not: its machine, tools and GPUs, and how they are now.', [
      'baton worker show gpu-7',
    ]),
  },
});

const health = buildCommand<HealthFlags, [string], CliContext>({
  loader: async () => (await import('./health.ts')).health,
  parameters: {
    flags: {
      ...commonFlags,
      minutes: {
        kind: 'parsed',
        parse: minutes,
        default: '60',
        brief: 'Of so many minutes, up to 1440',
        placeholder: 'N',
      },
    },
    aliases: outputAlias,
    positional: named,
  },
  docs: {
    brief: 'How the machine of a worker has been',
    fullDescription: helpText('How the machine of a worker has been, minute by minute, with its GPUs.', [
      'baton worker health gpu-7',
      'baton worker health gpu-7 --minutes 600 -o json',
    ]),
  },
});

const logs = buildCommand<LogsFlags, [string], CliContext>({
  loader: async () => (await import('./logs.ts')).logs,
  parameters: {
    flags: {
      ...commonFlags,
      task: text('Of this task alone', 'TASK'),
      follow: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Stay, and show lines as they are written',
      },
      recent: {
        kind: 'parsed',
        parse: recentLines,
        optional: true,
        brief: 'Begin with so many of the newest lines; default 10 with --follow, else all that are in memory',
        placeholder: 'N',
      },
    },
    aliases: { ...outputAlias, f: 'follow' },
    positional: named,
  },
  docs: {
    brief: 'What runs on a worker writes',
    fullDescription: helpText(
      'What runs on a worker writes, from the memory of the worker itself: its address has to be reachable from here.',
      ['baton worker logs gpu-7 --follow', 'baton worker logs gpu-7 --task 42 -f', 'baton worker logs gpu-7 -o json'],
      'All lines of a task, wherever it ran, are shown by `baton task logs`.',
    ),
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

const breakers = buildCommand<ListFlags, [], CliContext>({
  loader: async () => (await import('./breakers.ts')).breakers,
  parameters: {
    flags: {
      ...commonFlags,
      all: { kind: 'boolean', default: false, withNegated: false, brief: 'Also those that are closed' },
    },
    aliases: { ...outputAlias, a: 'all' },
  },
  docs: {
    brief: 'List circuit breakers that are open',
    fullDescription: helpText(
      'List the circuit breakers of workers and devices that are open or half-open.',
      ['baton worker breakers', 'baton worker breakers --all'],
      'With --all also those that have opened before, or count failures now.',
    ),
  },
});

const reset = buildCommand<ResetFlags, [string], CliContext>({
  loader: async () => (await import('./reset.ts')).reset,
  parameters: {
    flags: { ...commonFlags, device: text('The breaker of this device (a UUID), not of the worker', 'UUID') },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'The name of a worker', parse: String, placeholder: 'NAME' }],
    },
  },
  docs: {
    brief: 'Close the circuit breaker of a worker',
    fullDescription: helpText(
      'Close the circuit breaker of a worker or of a device; failures before now no longer count.',
      ['baton worker reset worker-1', 'baton worker reset gpu-7 --device GPU-5f1c'],
    ),
  },
});

export const command = buildRouteMap<
  'start' | 'list' | 'show' | 'health' | 'logs' | 'drain' | 'breakers' | 'reset',
  CliContext
>({
  routes: { start, list, show, health, logs, drain, breakers, reset },
  defaultCommand: 'start',
  docs: { brief: 'Run, list and drain workers; see and close their breakers' },
});
