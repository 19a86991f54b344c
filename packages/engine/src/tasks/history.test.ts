import { isTerminal, mayMove, type TaskState } from '@baton/domain';
import { openSql, readRecord } from '@baton/store';
import { driveLifeCycle, observeTasks } from '@baton/store/testing';
import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type HistoryEntry, historyOf } from './history.ts';

let database: Awaited<ReturnType<typeof testDatabase>>;
let sql: ReturnType<typeof openSql>;

beforeAll(async () => {
  database = await testDatabase({ migrated: true });
  sql = openSql(database.url, { max: 4 });
});
afterAll(async () => {
  await sql.end({ timeout: 5 });
  await database.drop();
});

/** The steps that a history tells, checked against the table. */
function fold(id: string, entries: readonly HistoryEntry[]): TaskState {
  let state: TaskState | 'none' = 'none';
  for (const entry of entries) {
    if (entry.state === null) continue;
    expect(mayMove(state, entry.state), `${id}: ${state} → ${entry.state}\n${told(entries)}`).toBe(true);
    state = entry.state;
  }
  return state as TaskState;
}

function told(entries: readonly HistoryEntry[]): string {
  return entries.map((e) => `${e.at.toISOString()} ${e.what} ${e.state ?? ''} ${e.attempt}/${e.epoch}`).join('\n');
}

it('tells random lives by steps of the table, up to where their rows are', { timeout: 60_000 }, async () => {
  await driveLifeCycle(sql, { seed: 2, steps: 400 });
  const tasks = await observeTasks(sql);
  const seen = new Set<string>();
  for (const task of tasks.values()) {
    const record = await readRecord(sql, 1, task.id);
    const entries = historyOf(record!);
    expect(fold(task.id, entries), told(entries)).toBe(task.state);
    expect(record!.task.state).toBe(task.state);
    // Every lease is told: granted once, ended once unless it is held.
    const granted = entries.filter(({ what }) => what === 'granted').map(({ epoch }) => epoch);
    expect(granted).toEqual([...granted].sort((a, b) => a - b));
    expect(new Set(granted).size).toBe(granted.length);
    const ended = entries.filter(({ what }) => what === 'attempt_ended');
    const asKept = ({ epoch, attempt, attemptState, retryDelayMs, failure }: HistoryEntry) =>
      [epoch, attempt, attemptState, retryDelayMs, failure?.type].filter((part) => part != null).join(':');
    expect(ended.map(asKept)).toEqual(task.history);
    expect(granted.length).toBe(task.history.length + (task.state === 'leased' ? 1 : 0));
    expect(entries.filter(({ what }) => what === 'ended')).toHaveLength(isTerminal(task.state) ? 1 : 0);
    if (isTerminal(task.state)) expect(entries.at(-1)!.what).toBe('ended');
    if (task.cancelReason !== null) {
      expect(entries.filter(({ message }) => message === task.cancelReason).length, told(entries)).toBeGreaterThan(0);
    }
    for (const { what, state } of entries) seen.add(state ? `${what} ${state}` : what);
  }
  // Not vacuous.
  expect([...seen]).toEqual(
    expect.arrayContaining([
      'submitted ready',
      'submitted scheduled',
      'ready ready',
      'granted leased',
      'attempt_ended',
      'backoff backoff',
      'cancel_requested',
      'ended succeeded',
      'ended failed',
      'ended cancelled',
    ]),
  );
});

it('tells checkpoints, progress and cancels within their lease, in the order of their times', () => {
  const at = (second: number) => new Date(1_000 * second);
  const entries = historyOf({
    task: { createdAt: at(0), state: 'leased', retryOf: '5' } as never,
    dueAt: null,
    past: [],
    held: { attempt: 1, epoch: 3, worker: 'w', grantedAt: at(1), startedAt: at(2) },
    waitsUntil: null,
    end: null,
    checkpoints: [
      { number: '1', epoch: 2, attempt: 1, worker: 'w', at: at(1), sizeBytes: 9, score: null },
      { number: '2', epoch: 3, attempt: 1, worker: 'w', at: at(5), sizeBytes: 10, score: 0.5 },
    ],
    cancels: [{ epoch: 3, at: at(4), reason: 'enough' }],
    progress: { epoch: 3, at: at(6), fraction: 0.254, message: 'epoch 7' },
    resent: [],
  });
  expect(
    entries.map(({ at: time, what, checkpoint, message }) => [time.getTime() / 1_000, what, checkpoint ?? message]),
  ).toEqual([
    [0, 'submitted', 'sends task 5 again'],
    [1, 'granted', ''],
    [2, 'started', ''],
    [4, 'cancel_requested', 'enough'],
    [5, 'checkpoint', '2'],
    [6, 'progress', '25 %, epoch 7'],
  ]);
});
