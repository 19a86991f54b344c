import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RunStage, runStage, type StageTask } from '../runs/runs.fixture.ts';
import type { AppendRequest, CommandEntry, JournalAnswer } from './journal.ts';

let stage: RunStage;
beforeAll(async () => {
  stage = await runStage();
  await stage.masters[0]!.functions.register(1, [
    {
      id: 'fn',
      release: '',
      description: '',
      queue: '',
      taskClass: 'cpu_short',
      tags: [],
      priority: 0,
      startToCloseMs: 0,
    },
  ]);
});
afterAll(() => stage.drop());

/** A function whose lease is held. */
async function going(): Promise<StageTask> {
  await stage.start({ name: 'one', nodes: { f: { workflow: 'fn' } } });
  await stage.settle();
  return (await stage.take()).find(({ kind }) => kind === 'fn')!;
}

function wait(number: number, change: Partial<CommandEntry>): CommandEntry {
  const base = { kind: 'sleep', name: 'sleep', afterPosition: 0, ended: false, attempts: 0, encoding: null } as const;
  return { ...base, output: null, failure: null, dueInMs: null, dueAtMs: null, number, ...change };
}

const plain = { kind: 'plain', queue: '', taskClass: 'cpu_short', tags: [], priority: 0, encoding: 1 } as const;

test('an append that is repeated tells of its waits again, and makes nothing twice', async () => {
  const { taskId, epoch, sessionId } = await going();
  const request: AppendRequest = {
    taskId,
    epoch,
    sessionId,
    seenPosition: 0,
    entries: [
      wait(1, { kind: 'task', name: 'plain', task: plain as never }),
      wait(2, { dueInMs: 60_000 }),
      wait(3, { kind: 'signal', name: 'go' }),
    ],
  };
  // As by a master whose connection to Postgres was cut after the commit, and by a worker whose answer was lost.
  const append = () => stage.masters[0]!.journals.append(request) as Promise<JournalAnswer>;
  const told = ({ rows }: JournalAnswer) =>
    rows.map(({ number, position, dueAtMs, refId }) => ({ number, position, dueAtMs, refId }));
  const first = told(await append());
  expect(first.map(({ number }) => number)).toEqual([1, 2, 3]);
  expect(first[1]!.dueAtMs).toBeGreaterThan(Date.now());
  expect(told(await append())).toEqual(first);
  const made = await stage.sql.unsafe(
    `select t.id from baton.tasks t join baton.routes r on r.id = t.route_id where r.kind = 'plain'`,
  );
  expect(made.map(({ id }) => id)).toEqual([first[0]!.refId]);
});

test('of a repeated append what has happened meanwhile is told as resolved, the rest as waiting', async () => {
  const { taskId, epoch, sessionId } = await going();
  const request: AppendRequest = {
    taskId,
    epoch,
    sessionId,
    seenPosition: 0,
    entries: [wait(1, { dueInMs: 0 }), wait(2, { dueInMs: 60_000 })],
  };
  const append = async () => ((await stage.masters[0]!.journals.append(request)) as JournalAnswer).rows;
  await append();
  const again = await append();
  expect(again.map(({ number, position }) => [number, position])).toEqual([
    [1, 1],
    [2, 0],
  ]);
});
