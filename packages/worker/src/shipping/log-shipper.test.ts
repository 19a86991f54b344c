import { LeaseSchema, type LogLine } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { Attempt } from '../attempts/attempt.ts';
import { SignBoard } from '../heartbeat/sign-board.ts';
import type { FakeMaster } from '../testing/fake-master.ts';
import { openWorker, recordingLogger, success } from '../testing/open-worker.ts';
import { LogHub } from './log-hub.ts';
import { LogShipper } from './log-shipper.ts';

const noSigns = { board: new SignBoard(), say: () => {} };
const noOutput = { write: () => Promise.resolve() };
const texts = (master: FakeMaster) => master.logs.map(({ text }) => text);

test('the lines of an attempt are there, in order and together, before its result', async () => {
  const { master, worker } = await openWorker({
    tasks: {
      talk: ({ log }) => {
        for (let i = 1; i <= 300; i++) {
          log(`line ${i}`);
        }
        return success(null);
      },
    },
  });
  await worker.start();
  const id = master.submit({ kind: 'talk', attempt: 2, epoch: 5 });
  await master.result(id);
  expect(texts(master)).toEqual(Array.from({ length: 300 }, (_, i) => `line ${i + 1}`));
  expect(master.logs.map(({ sequence }) => Number(sequence))).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
  expect(master.logs[0]).toMatchObject({ taskId: id, epoch: 5, attempt: 2, stream: 'log' });
  expect(master.appendCalls).toEqual([300]);
});

test('lines of a task that runs go out within a moment, in batches of 2 000 at most', async () => {
  const { master, worker, executor } = await openWorker({ slots: 1 });
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const { context } = await executor.running(id);
  for (let i = 1; i <= 4_500; i++) {
    context.log(`line ${i}`, 'stdout');
  }
  await master.until(() => master.logs.length === 4_500);
  expect(master.appendCalls).toEqual([2_000, 2_000, 500]);
  context.log('one more');
  await master.until(() => master.logs.length === 4_501);
  expect(master.logs.at(-1)!.text).toBe('one more');
  expect(master.results.has(id)).toBe(false);
});

test('lines are sent until they are acknowledged, each once', async () => {
  const { master, worker } = await openWorker({
    tasks: {
      talk: ({ log }) => {
        log('a');
        log('b\u0000\ud800');
        return success(null);
      },
    },
  });
  await worker.start();
  master.failAppends = 2;
  await master.result(master.submit({ kind: 'talk' }));
  expect(texts(master)).toEqual(['a', 'b\ufffd\ufffd']);
});

test('a line after the end of the attempt is not kept', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold' });
  const task = await executor.running(id);
  task.context.log('in time');
  task.end();
  await master.result(id);
  task.context.log('too late');
  await master.result(master.submit({ kind: 'noop' }));
  expect(texts(master)).toEqual(['in time']);
});

test('when nothing can be sent the oldest lines are dropped, and a line in their place says how many', async () => {
  const sent: LogLine[][] = [];
  const { log } = recordingLogger();
  let fail = true;
  const arrived = Promise.withResolvers<void>();
  const shipper = new LogShipper({
    hub: new LogHub(),
    log,
    maxBufferLines: 10,
    send: async (lines) => {
      if (fail) {
        fail = false;
        throw new Error('no master');
      }
      sent.push(lines);
      arrived.resolve();
      return 0;
    },
  });
  const attempt = new Attempt(create(LeaseSchema, { taskId: '7', epoch: 2, attempt: 1 }), shipper, noOutput, noSigns);
  for (let i = 1; i <= 25; i++) {
    shipper.append(attempt, `line ${i}`, 'log');
  }
  await arrived.promise;
  expect(sent[0]!.map(({ sequence, text }) => [Number(sequence), text])).toEqual([
    [15, '… 15 lines were dropped here: the worker could not send them in time'],
    ...Array.from({ length: 10 }, (_, i) => [16 + i, `line ${16 + i}`]),
  ]);
  await shipper.flushed(attempt);
  expect(shipper.flushed(attempt)).toBeUndefined();
  shipper.close();
});

test('a result waits for its lines no longer than a bound', async () => {
  const { log, until } = recordingLogger();
  const shipper = new LogShipper({ hub: new LogHub(), log, flushTimeoutMs: 20, send: () => new Promise(() => {}) });
  const attempt = new Attempt(create(LeaseSchema, { taskId: '7', epoch: 2, attempt: 1 }), shipper, noOutput, noSigns);
  shipper.append(attempt, 'never answered', 'log');
  await shipper.flushed(attempt);
  await until('task log not acknowledged in time');
  shipper.close();
});
