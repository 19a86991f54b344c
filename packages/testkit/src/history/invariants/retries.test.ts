import { EVENT } from '@baton/domain';
import { expect, test } from 'vitest';
import type { AttemptRow, CheckpointRow, LogEvent, RunRow, TaskRow } from '../database-dump.ts';
import { soundHistory } from '../sound-history.ts';
import { checkRetries } from './retries.ts';

const crash = { type: 'WORKER_CRASH', message: 'its worker was lost' } as const;

/** A function whose worker was lost in two attempts, from 0 to 10 and from 20 to 30 ms; it went on at once both times. */
function lostTwice(
  writtenAtMs: readonly number[],
  checkpoints: readonly CheckpointRow[] = [],
  events: readonly LogEvent[] = [],
  form: 'function' | 'graph' = 'function',
  between: Partial<AttemptRow>[] = [],
) {
  const { settings, database } = soundHistory();
  const [task] = database.tasks as TaskRow[];
  const [run] = database.runs as RunRow[];
  const [attempt] = database.attempts as AttemptRow[];
  const row = (epoch: number, grantedAtMs: number, more: Partial<AttemptRow>): AttemptRow => ({
    ...attempt!,
    taskId: 'driver',
    epoch,
    attempt: epoch,
    grantedAtMs,
    endedAtMs: grantedAtMs + 10,
    retryDelayMs: null,
    failure: null,
    state: 'lost',
    ...more,
  });
  return checkRetries({
    ...soundHistory(),
    settings,
    database: {
      ...database,
      tasks: [{ ...task!, id: 'driver', runId: 'run', nodeId: null, retry: null }],
      runs: [{ ...run!, id: 'run', form }],
      attempts: [
        row(1, 0, { failure: crash }),
        ...between.map((each, i) => row(2 + i, 12 + i, { endedAtMs: 12.5 + i, ...each })),
        row(8, 20, { failure: crash }),
        row(9, 40, { state: 'succeeded' }),
      ],
      leases: [],
      checkpoints,
      events,
      journal: writtenAtMs.map((atMs) => ({ runId: 'run', atMs })),
    },
  }).violations;
}

test('a second loss in a row is followed by a delay', () => {
  expect(lostTwice([]).map(({ message }) => message)).toEqual([
    expect.stringContaining('the delay after epoch 8 of task driver is 0 ms'),
  ]);
});

test('what a function adds to its journal forgets the losses before', () => {
  expect(lostTwice([25])).toEqual([]);
  expect(lostTwice([5])).toHaveLength(1);
});

test('a new checkpoint forgets the losses before, also one that was deleted since', () => {
  const kept = (epoch: number): CheckpointRow => ({
    taskId: 'driver',
    number: epoch,
    epoch,
    createdAtMs: epoch === 1 ? 5 : 25,
    saveId: `save-${epoch}`,
  });
  const seen = (atMs: number): LogEvent => ({
    type: EVENT.checkpointSaved,
    taskId: 'driver',
    runId: '',
    attempt: 2,
    atMs,
  });
  expect(lostTwice([], [kept(8)])).toEqual([]);
  expect(lostTwice([], [kept(1)])).toHaveLength(1);
  expect(lostTwice([], [], [seen(25)])).toEqual([]);
  expect(lostTwice([], [], [seen(5), { ...seen(25), type: EVENT.taskLeased }])).toHaveLength(1);
});

test('a function may have waited where its attempt is returned; another task was handed back, which forgets nothing', () => {
  expect(lostTwice([], [], [], 'function', [{ state: 'returned' }])).toEqual([]);
  expect(lostTwice([], [], [], 'graph', [{ state: 'returned' }])).toHaveLength(1);
});
