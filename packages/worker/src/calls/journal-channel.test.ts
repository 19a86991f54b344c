import type { NewEntry } from '@baton/client/durable';
import {
  type AppendJournalRequest,
  AppendJournalResponseSchema,
  JournalKind,
  LoadJournalResponseSchema,
  TaskResultSchema,
} from '@baton/contract';
import { createLogger } from '@baton/telemetry';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import type { Attempt } from '../attempts/attempt.ts';
import { TaskStopped } from '../attempts/stop.ts';
import { JournalChannel } from './journal-channel.ts';

type Answer = MessageInitShape<typeof AppendJournalResponseSchema>;

/** A channel to a master that answers as it is told. */
function channel(answer: (request: AppendJournalRequest, call: number) => Answer | Promise<Answer>) {
  const requests: AppendJournalRequest[] = [];
  const lost: string[] = [];
  const master = {
    appendJournal: async (request: AppendJournalRequest) => {
      requests.push(request);
      return create(AppendJournalResponseSchema, await answer(request, requests.length));
    },
    loadJournal: async ({ afterNumber }: { afterNumber: number }) =>
      create(LoadJournalResponseSchema, {
        entries: [{ number: afterNumber + 1, kind: JournalKind.STEP, name: 's', position: afterNumber + 1 }],
        more: afterNumber < 2,
        wakes: BigInt(afterNumber + 5),
        now: timestampFromMs(1_000),
      }),
  };
  const journals = new JournalChannel({
    namespace: '',
    sessionId: '1',
    connection: { master } as never,
    log: createLogger({ name: 'test', level: 'error' }),
    onLost: (attempt, reason) => {
      lost.push(reason);
      attempt.requestStop('lost', reason);
    },
  });
  return { journals, requests, lost };
}

function attemptOf(taskId: string, epoch = 1): Attempt {
  const attempt = {
    taskId,
    epoch,
    phase: 'running',
    stop: undefined as TaskStopped | undefined,
    fields: {},
    sign() {},
    requestStop(kind: 'lost', message: string) {
      attempt.stop = new TaskStopped(kind, message);
    },
  };
  return attempt as never;
}

const step = (number: number, bytes = 1): NewEntry => ({
  number,
  kind: 'step',
  name: 's',
  afterPosition: 0,
  ended: true,
  attempts: 2,
  output: { encoding: 2, bytes: new Uint8Array(bytes) },
});
const taken = (request: AppendJournalRequest): Answer => ({
  answers: request.appends.map(({ entries }) => ({
    wakes: 3n,
    entries: entries.map(({ number }) => ({
      number,
      kind: JournalKind.STEP,
      name: 's',
      position: number,
      attempts: 2,
    })),
  })),
  now: timestampFromMs(7_000),
});

test('what functions add at one moment goes in one call, and each knows the outcome that it sent', async () => {
  const { journals, requests } = channel(taken);
  const answers = await Promise.all(
    ['10', '11', '12'].map((id, i) => journals.append(attemptOf(id), [step(i + 1)], 0)),
  );
  expect(requests).toHaveLength(1);
  expect(answers[2]).toMatchObject({ wakes: 3n, nowMs: 7_000, entries: [{ number: 3, position: 3, attempts: 2 }] });
  expect(answers[2]!.entries[0]!.output).toEqual(step(3).output);
});

test('large outputs travel in calls of their own, and an answer that has more is asked for the rest', async () => {
  const { journals, requests } = channel((request, call) => {
    const answer = taken(request);
    if (call === 2) answer.answers![0]!.more = true;
    return answer;
  });
  await journals.append(attemptOf('10'), [step(1, 1_500_000), step(2, 1_500_000)], 0);
  expect(requests.map((r) => [r.appends[0]!.entries.length, r.appends[0]!.seenPosition])).toEqual([
    [1, 0],
    [1, 1],
    [0, 2],
  ]);
});

test('a call that broke is repeated until it is answered', async () => {
  const { journals, requests } = channel((request, call) => {
    if (call < 3) throw new ConnectError('away', Code.Unavailable);
    return taken(request);
  });
  await journals.append(attemptOf('10'), [step(1)], 0);
  expect(requests).toHaveLength(3);
});

test('a lease that is lost ends the attempt, and no other', async () => {
  const { journals, lost } = channel((request) => ({
    answers: request.appends.map(({ taskId }) => (taskId === '10' ? { reason: 'LEASE_LOST', message: 'gone' } : {})),
  }));
  const first = attemptOf('10');
  const second = attemptOf('11');
  const refused = journals.append(first, [step(1)], 0);
  const other = journals.append(second, [], 0);
  await expect(refused).rejects.toBeInstanceOf(TaskStopped);
  expect(await other).toMatchObject({ entries: [] });
  expect(lost).toEqual(['gone']);
  await expect(journals.append(first, [step(2)], 0)).rejects.toBeInstanceOf(TaskStopped);
  expect(second.stop).toBeUndefined();
});

test('one append that the master finds invalid fails alone', async () => {
  const { journals } = channel((request) => {
    if (request.appends.some(({ taskId }) => taskId === '10')) throw new ConnectError('no', Code.InvalidArgument);
    return taken(request);
  });
  const bad = journals.append(attemptOf('10'), [step(1)], 0);
  const good = journals.append(attemptOf('11'), [step(1)], 0);
  await expect(bad).rejects.toThrow(/INVALID_REQUEST/);
  expect((await good).entries).toHaveLength(1);
});

test('a journal is loaded in pages, its wakes as of the first; that of a first lease is empty and not asked for', async () => {
  const { journals } = channel(taken);
  const { entries, wakes, nowMs } = await journals.load(attemptOf('10', 2));
  expect(entries.map((e) => e.number)).toEqual([1, 2, 3]);
  expect([wakes, nowMs]).toEqual([5n, 1_000]);
  expect(await journals.load(attemptOf('10', 1))).toEqual({ entries: [], wakes: 0n, nowMs: 0 });
});

const success = (taskId: string) =>
  create(TaskResultSchema, {
    taskId,
    epoch: 1,
    ranUs: 9n,
    outcome: { case: 'success', value: { output: new Uint8Array([1]) } },
  });
const finished = (taskId: string) => {
  const attempt = attemptOf(taskId);
  attempt.phase = 'finished';
  return attempt;
};

test('a function that has returned ends with what its journal lacks, also one that was asked to stop meanwhile', async () => {
  const { journals, requests } = channel((request, call) => {
    if (call === 1) throw new ConnectError('away', Code.Unavailable);
    return { answers: request.appends.map(() => ({ ended: true })) };
  });
  const attempt = finished('10');
  attempt.requestStop('cancel', 'changed my mind');
  const rest = { entries: [step(3)], seenPosition: 2 };
  expect(await journals.complete(attempt, rest, success('10'))).toBe(true);
  expect(requests[1]!.appends).toMatchObject([
    { taskId: '10', seenPosition: 2, entries: [{ number: 3 }], success: { output: new Uint8Array([1]) }, ranUs: 9n },
  ]);
});

test('a master that knows no such end takes the entries, and the result goes its own way', async () => {
  const { journals, requests } = channel(taken);
  expect(await journals.complete(finished('10'), { entries: [step(1)], seenPosition: 0 }, success('10'))).toBe(false);
  expect(requests).toHaveLength(1);
});

test('of an end that is no success only what the journal lacks is sent', async () => {
  const { journals, requests } = channel(taken);
  const failure = create(TaskResultSchema, { taskId: '10', outcome: { case: 'failure', value: {} } });
  expect(await journals.complete(finished('10'), { entries: [], seenPosition: 4 }, failure)).toBe(false);
  expect(requests).toHaveLength(0);
  expect(await journals.complete(finished('10'), { entries: [step(1)], seenPosition: 0 }, failure)).toBe(false);
  expect(requests[0]!.appends[0]).toMatchObject({ entries: [{ number: 1 }] });
  expect(requests[0]!.appends[0]).not.toHaveProperty('success');
});

test('an end that is not wanted any more is not repeated', async () => {
  const attempt = finished('10');
  const { journals, requests } = channel(() => {
    attempt.phase = 'settled';
    throw new ConnectError('away', Code.Unavailable);
  });
  const rest = { entries: [], seenPosition: 0 };
  await expect(journals.complete(attempt, rest, success('10'))).rejects.toThrow(/LEASE_LOST/);
  expect(requests).toHaveLength(1);
});

test('a master that gives entries times of its own is noticed', async () => {
  const { journals } = channel((request) => {
    const answer = taken(request);
    for (const entry of answer.answers![0]!.entries!) entry.endTime = timestampFromMs(5_000);
    return answer;
  });
  await journals.append(attemptOf('10'), [{ ...step(1), endedAtMs: 5_000 }], 0);
  expect(journals.keepsTimes).toBe(true);
  await journals.append(attemptOf('10'), [{ ...step(2), endedAtMs: 4_000 }], 0);
  expect(journals.keepsTimes).toBe(false);
});
