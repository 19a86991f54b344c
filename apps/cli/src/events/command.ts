import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { commonFlags, durationMs, helpText, idArgument, outputAlias, wholeNumber } from '../flags.ts';
import { EVENT_TYPES, type EventsFlags } from './events-flags.ts';

const ids = (brief: string, placeholder: string) =>
  ({ kind: 'parsed', parse: idArgument, variadic: ',', optional: true, brief, placeholder }) as const;

/** A time ago (ms), or a point in time. */
function sinceArgument(text: string): number | Date {
  const date = /^\d{4}-/.test(text) ? new Date(text) : undefined;
  if (date === undefined) return durationMs(text);
  if (Number.isNaN(date.getTime())) throw usageError(`"${text}" is not a time such as 2026-11-22T13:30:00Z`);
  return date;
}

export const command = buildCommand<EventsFlags, [], CliContext>({
  loader: async () => (await import('./events.ts')).events,
  parameters: {
    flags: {
      ...commonFlags,
      type: { kind: 'enum', values: EVENT_TYPES, variadic: ',', optional: true, brief: 'Only these types' },
      task: ids('Only of these tasks', 'TASK'),
      run: ids('Only of these runs', 'RUN'),
      since: {
        kind: 'parsed',
        parse: sinceArgument,
        optional: true,
        brief: 'From then on: 10m ago, or a time; default now',
        placeholder: 'TIME',
      },
      cursor: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'Go on behind this, from an earlier -o json',
        placeholder: 'CURSOR',
      },
      limit: {
        kind: 'parsed',
        parse: wholeNumber(1, 1_000_000_000),
        optional: true,
        brief: 'End after so many',
        placeholder: 'N',
      },
    },
    aliases: { ...outputAlias, n: 'limit' },
  },
  docs: {
    brief: 'Watch what happens',
    fullDescription: helpText(
      'Print events as they happen, a line each, until Ctrl-C.',
      [
        'baton events',
        'baton events --type task_failed,worker_lost --since 1h',
        'baton events --task 42 -o json',
        'baton events --cursor "$(tail -1 events.jsonl | jq -r .cursor)" -o json >> events.jsonl',
      ],
      'With -o json each line has a cursor to go on from, where one stands behind it.',
    ),
  },
});
