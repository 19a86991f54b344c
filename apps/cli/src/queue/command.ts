import type { Placement, Strategy } from '@baton/client';
import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, helpText, outputAlias } from '../flags.ts';
import type { SetFlags } from './set.ts';

/** Written out: the client is loaded by the commands that call it, and not for their help. */
const strategies: Record<Strategy, true> = {
  fifo: true,
  priority: true,
  round_robin: true,
  load_balancing: true,
  adaptive: true,
  work_stealing: true,
};
const placements: Record<Placement, true> = { first_fit: true, best_fit: true, worst_fit: true };

const oneQueue = {
  kind: 'tuple',
  parameters: [{ brief: 'The name of a queue', parse: String, placeholder: 'QUEUE' }],
} as const;

const list = buildCommand<CommonFlags, [], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: { flags: commonFlags, aliases: outputAlias },
  docs: {
    brief: 'List queues with what is in them',
    fullDescription: helpText(
      'List queues by name, with what is in them.',
      ['baton queue list', 'baton queue list -o json'],
      'Each number is counted up to 10000.',
    ),
  },
});

const pause = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./pause.ts')).pause,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneQueue },
  docs: {
    brief: 'Hold a queue',
    fullDescription: helpText(
      'Grant nothing more from a queue, by any master; what runs goes on. It may be a queue that nobody has used yet.',
      ['baton queue pause night'],
    ),
  },
});

const resume = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./pause.ts')).resume,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneQueue },
  docs: {
    brief: 'Let a queue go on',
    fullDescription: helpText('Let a queue that was held go on.', ['baton queue resume night']),
  },
});

const set = buildCommand<SetFlags, [string], CliContext>({
  loader: async () => (await import('./set.ts')).set,
  parameters: {
    flags: {
      ...commonFlags,
      strategy: {
        kind: 'enum',
        values: ['default', ...(Object.keys(strategies) as Strategy[])],
        optional: true,
        brief: 'Which task goes first, and to whom; "default": as the master says',
      },
      placement: {
        kind: 'enum',
        values: ['default', ...(Object.keys(placements) as Placement[])],
        optional: true,
        brief: 'Which devices and workers that fit are taken; "default": as the master says',
      },
    },
    aliases: outputAlias,
    positional: oneQueue,
  },
  docs: {
    brief: "Set how a queue's tasks are given to workers",
    fullDescription: helpText("Set how a queue's tasks are given to workers. What is not named stays as it is.", [
      'baton queue set night --strategy fifo',
      'baton queue set night --placement worst_fit',
      'baton queue set night --strategy default --placement default',
    ]),
  },
});

export const command = buildRouteMap<'list' | 'pause' | 'resume' | 'set', CliContext>({
  routes: { list, pause, resume, set },
  docs: { brief: 'See queues, hold them, and set how they are given out' },
});
