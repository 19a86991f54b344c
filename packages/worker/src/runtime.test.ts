import { FailureType } from '@baton/contract';
import { expect, onTestFinished, test } from 'vitest';
import { WorkerStoppedError } from './errors.ts';
import { createWorkerRuntime } from './runtime.ts';
import { type State, stateName, transitions } from './state.ts';
import { FakeMaster } from './testing/fake-master.ts';
import { openWorker, recordingLogger, success } from './testing/open-worker.ts';

test('registration is tried until a master takes it, each failure logged', async () => {
  const { log, lines } = recordingLogger();
  const { master, worker } = await openWorker({ log, slots: 7 });
  master.failRegistrations = 3;
  const started = worker.start();
  expect(worker.state).toBe('connecting');
  await started;
  expect(worker.state).toBe('idle');
  expect(master.registrations).toHaveLength(4);
  expect(lines.filter(({ message }) => message === 'registration failed').map(({ fields }) => fields.failures)).toEqual(
    [1, 2, 3],
  );
  const { name, protocolVersion, capabilities } = master.registrations[0]!;
  expect({ name, protocolVersion }).toEqual({ name: 'test-worker', protocolVersion: 4 });
  expect(capabilities).toMatchObject({ slots: 7, executors: ['function'], kinds: expect.arrayContaining(['noop']) });
  // The same life all along: a repeated call is the same registration.
  expect(new Set(master.registrations.map(({ instanceId }) => instanceId)).size).toBe(1);
});

test('a registration whose answer was lost for so long that its session is over is made anew', async () => {
  const { master, worker } = await openWorker();
  master.expireRegistrations = 1;
  await worker.start();
  expect(worker.state).toBe('idle');
  const [first, again, anew] = master.registrations.map(({ instanceId }) => instanceId);
  expect(again).toBe(first);
  expect(anew).not.toBe(first);
});

test('with a master of the version before, a worker speaks the protocol of that version', async () => {
  const { master, worker } = await openWorker();
  master.protocolVersion = 1;
  master.failRegistrations = 1;
  await worker.start();
  expect(worker.state).toBe('idle');
  expect(master.registrations.map(({ protocolVersion }) => protocolVersion)).toEqual([4, 3, 2, 1, 1]);
  expect(new Set(master.registrations.map(({ instanceId }) => instanceId)).size).toBe(1);
});

test('a worker may be there before its master', async () => {
  const reserved = await FakeMaster.start();
  const { port, url } = reserved;
  await reserved.close();
  const { log, until } = recordingLogger();
  const { worker } = await openWorker({ masterUrl: url, log });
  const started = worker.start();
  await until('registration failed');
  const master = await FakeMaster.start({}, port);
  onTestFinished(() => master.close());
  await started;
  expect(worker.state).toBe('idle');
  await worker.shutdown('over');
});

test('a worker that is stopped before it was taken says so to whoever waits for its start', async () => {
  const { master, worker } = await openWorker();
  master.failRegistrations = Number.POSITIVE_INFINITY;
  const started = worker.start();
  await master.until(() => master.registrations.length > 0);
  await worker.shutdown('changed my mind');
  await expect(started).rejects.toThrow(WorkerStoppedError);
  expect(await worker.stopped).toBe('changed my mind');
  expect(worker.state).toBe('stopped');
});

test('when the master lets go of the session all work is aborted and discarded, and a new life begins', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'deaf' });
  const task = await executor.running(id);
  expect(worker.state).toBe('busy');
  const first = worker.sessionId;
  master.loseSession();
  await master.until(() => master.registrations.length === 2);
  expect(task.context.signal.reason).toMatchObject({ name: 'TaskStopped', kind: 'lost' });
  const [before, after] = master.registrations;
  expect(after!.name).toBe(before!.name);
  expect(after!.instanceId).not.toBe(before!.instanceId);
  await master.result(master.submit({ kind: 'noop' }));
  expect(worker.sessionId).not.toBe(first);
  // The late result of the old life is never sent in the new one.
  task.end();
  await master.result(master.submit({ kind: 'noop' }));
  expect(master.deliveries.has(id)).toBe(false);
});

test('a task that does not end in its start-to-close time is told to stop, and has timed out', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  const id = master.submit({ kind: 'hold', startToCloseMs: 60n });
  const task = await executor.running(id);
  const { outcome, ranUs } = await master.result(id);
  expect(outcome).toMatchObject({
    case: 'failure',
    value: { type: FailureType.TASK_TIMEOUT, message: expect.stringContaining('60 ms') },
  });
  expect(Number(ranUs)).toBeGreaterThanOrEqual(59_000);
  expect(task.context.signal.reason).toMatchObject({ kind: 'timeout' });
});

test('a task that ignores its signal is given up after a short grace', async () => {
  const { master, worker, executor } = await openWorker({ abortGraceMs: 50 });
  await worker.start();
  const timedOut = master.submit({ kind: 'deaf', startToCloseMs: 30n });
  const cancelled = master.submit({ kind: 'deaf' });
  await executor.running(cancelled);
  master.cancel(cancelled);
  expect((await master.result(timedOut)).outcome).toMatchObject({ value: { type: FailureType.TASK_TIMEOUT } });
  expect((await master.result(cancelled)).outcome.case).toBe('cancelled');
  // What it returns later is nobody's.
  executor.holding.get(cancelled)!.end();
  await master.result(master.submit({ kind: 'noop' }));
  expect(master.deliveries.get(cancelled)).toBe(1);
});

test('code that blocks the loop beyond its start-to-close time has timed out', async () => {
  const { master, worker } = await openWorker({
    tasks: {
      block: () => {
        const end = performance.now() + 40;
        while (performance.now() < end) {}
        return success('too late');
      },
    },
  });
  await worker.start();
  const { outcome } = await master.result(master.submit({ kind: 'block', startToCloseMs: 20n }));
  expect(outcome).toMatchObject({ case: 'failure', value: { type: FailureType.TASK_TIMEOUT } });
});

test('failures arrive with clean texts, and an executor that throws is a failure too', async () => {
  const { master, worker } = await openWorker();
  await worker.start();
  expect((await master.result(master.submit({ kind: 'fail' }))).outcome).toMatchObject({
    value: { type: FailureType.EVALUATION_ERROR, message: 'no\ufffd \ufffd' },
  });
  expect((await master.result(master.submit({ kind: 'throw' }))).outcome).toMatchObject({
    value: {
      type: FailureType.UNKNOWN,
      exceptionType: 'RangeError',
      message: expect.stringContaining('thrown across'),
    },
  });
});

test('kinds that come later are announced in the same session', async () => {
  const { master, worker, executor } = await openWorker();
  await worker.start();
  executor.setKinds(['noop', 'new-one']);
  await master.until(() => master.registrations.length === 2);
  const [before, after] = master.registrations;
  expect(after!.instanceId).toBe(before!.instanceId);
  expect(after!.capabilities!.kinds).toEqual(['noop', 'new-one']);
});

test('options that cannot work are refused, all at once', () => {
  expect(() =>
    createWorkerRuntime({
      masterUrl: 'localhost:7800',
      name: '',
      version: '',
      executors: [],
      log: recordingLogger().log,
      capabilities: { slots: 0 },
    }),
  ).toThrow(/http:\/\/host:port.*no executors.*name.*slots/);
});

test('every state has a way to the end, and its name is one of WorkerService', () => {
  for (const from of Object.keys(transitions) as State['kind'][]) {
    const seen = new Set<State['kind']>([from]);
    for (const each of seen) {
      for (const next of transitions[each]) {
        seen.add(next);
      }
    }
    expect(seen.has('stopped')).toBe(true);
  }
  expect(transitions.stopped).toEqual([]);
  expect(stateName({ kind: 'new' })).toBe('connecting');
});
