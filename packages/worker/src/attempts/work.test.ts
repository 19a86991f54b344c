import { FailureType, type Lease, LeaseSchema, type TaskResult } from '@baton/contract';
import type { BookedDevice } from '@baton/hardware';
import { silentLogger } from '@baton/telemetry';
import { create } from '@bufbuild/protobuf';
import { expect, onTestFinished, test, vi } from 'vitest';
import { monotonicMs } from '../clock.ts';
import { SharedState } from '../heartbeat/shared-state.ts';
import { success } from '../testing/open-worker.ts';
import type { AttemptContext, Outcome } from './executor.ts';
import { ResourceAccounts } from './resource-accounts.ts';
import { Work } from './work.ts';

/** For vi.waitFor, which gives up after a second. */
const soon = { timeout: 20_000 };

/** Work of one session, with code that each test gives. */
function open(
  run: (context: AttemptContext, lease: Lease) => Outcome | Promise<Outcome>,
  slots = 1,
  input: () => Promise<Uint8Array> = () => Promise.reject(new Error('no blobs here')),
  devices: BookedDevice[] = [],
) {
  const results: TaskResult[] = [];
  const said: string[] = [];
  const accounts = new ResourceAccounts({ cpus: 4, memoryBytes: 1_000, devices: { list: () => devices } });
  const shared = new SharedState(slots);
  shared.leaseUntilMs = monotonicMs() + 60_000;
  const work = new Work({
    onOver: () => {},
    executors: [{ type: 'function', start: (lease, context) => run(context, lease) }],
    slots,
    prefetchCap: 100,
    abortGraceMs: 50,
    maxResultBytes: 1_000,
    logs: { append() {}, flushed: () => undefined },
    outputs: { write: () => Promise.resolve(), ended: () => undefined, discard() {} },
    data: {
      save: async () => 1,
      load: async () => undefined,
      blob: () => Promise.reject(new Error('no blobs here')),
      input,
    },
    variables: {},
    accounts,
    shared,
    onSaid: (_, message) => said.push(message),
    log: silentLogger,
    onResult: (result) => results.push(result),
    onTaken: () => {},
  });
  onTestFinished(() => work.loseAll('the test is over'));
  const accept = (...ids: number[]) =>
    work.accept(
      ids.map((id) =>
        create(LeaseSchema, { taskId: String(id), epoch: 1, attempt: 1, executor: { case: 'function', value: {} } }),
      ),
    );
  const outcomes = () => results.map((result) => `${result.taskId} ${result.outcome.case}`);
  return {
    accounts,
    work,
    results,
    outcomes,
    accept,
    said,
    shared,
  };
}

/** Turns of the main loop, enough for all that can begin: work yields to the loop when its slice of time is used up, and on a busy machine others use it up. */
async function turns(): Promise<void> {
  for (let i = 0; i < 50; i++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
const forever = () => new Promise<Outcome>(() => {});

test('a recall hands back what has not been started, the newest first, and does not ask for it again', async () => {
  const { work, outcomes, accept } = open(forever);
  // It had proved that it does short tasks fast.
  for (let i = 0; i < 200; i++) {
    work.prefetch.taskEnded(0.1);
  }
  work.prefetch.roundTrip({ asked: 1, given: 1, left: 0, idle: true });
  for (let i = 0; i < 6; i++) {
    work.prefetch.roundTrip({ asked: 10, given: 10, left: 0, idle: true });
  }
  accept(1, 2, 3, 4, 5);
  await turns();
  expect(work.wanted).toBeGreaterThan(10);
  expect(work.recall(2)).toBe(2);
  expect(outcomes()).toEqual(['5 returned', '4 returned']);
  expect(work.wanted).toBe(0);
  expect(work.recall(100)).toBe(2);
  expect(outcomes()).toEqual(['5 returned', '4 returned', '3 returned', '2 returned']);
  expect(work.recall(100)).toBe(0);
  expect({ queued: work.queued, running: work.running, wanted: work.wanted }).toEqual({
    queued: 0,
    running: 1,
    wanted: 0,
  });
});

test('a cancel that comes before its lease stops it before it begins', async () => {
  const started: string[] = [];
  const { work, outcomes, accept } = open(({ taskId }) => {
    started.push(taskId);
    return forever();
  }, 4);
  expect(work.cancel('2', 1, 'enough')).toBe(false);
  expect(work.cancel('3', 7, 'another epoch')).toBe(false);
  accept(1, 2, 3);
  await turns();
  expect(started).toEqual(['1', '3']);
  expect(outcomes()).toEqual(['2 cancelled']);
});

test('a silent attempt is stopped with TASK_TIMEOUT, and one that gives signs goes on', async () => {
  const stopped: unknown[] = [];
  const { work, results, said } = open(async (context) => {
    const { signal, progress } = context;
    const noise = setInterval(() => {
      if (context.taskId === '2') {
        progress(0.5, 'half');
      }
    }, 20);
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    stopped.push(signal.reason);
    clearInterval(noise);
    return { kind: 'cancelled' };
  }, 2);
  work.accept(
    ['1', '2'].map((taskId) =>
      create(LeaseSchema, {
        taskId,
        epoch: 1,
        attempt: 1,
        progressTimeoutMs: 150n,
        executor: { case: 'function', value: {} },
      }),
    ),
  );
  await vi.waitFor(() => expect(results).toHaveLength(1), soon);
  expect(results[0]).toMatchObject({
    taskId: '1',
    outcome: { case: 'failure', value: { type: FailureType.TASK_TIMEOUT, message: 'no sign for 150 ms' } },
  });
  expect(stopped[0]).toMatchObject({ kind: 'timeout', message: 'no sign for 150 ms' });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(results).toHaveLength(1);
  expect(said).toContain('half');
  expect(work.running).toBe(1);
});

test('an attempt that ignores that it was silent too long is given up after the grace', async () => {
  const { work, results } = open(forever);
  work.accept([
    create(LeaseSchema, {
      taskId: '1',
      epoch: 1,
      attempt: 1,
      progressTimeoutMs: 30n,
      executor: { case: 'function', value: {} },
    }),
  ]);
  await vi.waitFor(() => expect(results).toHaveLength(1), soon);
  expect(results[0]!.outcome).toMatchObject({ case: 'failure', value: { type: FailureType.TASK_TIMEOUT } });
});

test('what runs sits on the board from before its code begins until its end', async () => {
  const { accept, shared, outcomes } = open((context) => {
    expect(shared.signs.read()).toMatchObject([{ taskId: context.taskId, epoch: 1 }]);
    context.progress(7);
    expect(shared.signs.read()).toMatchObject([{ fraction: 1 }]);
    return success(1);
  });
  accept(1, 2, 3);
  await turns();
  expect(outcomes()).toEqual(['1 success', '2 success', '3 success']);
  expect(shared.signs.read()).toEqual([]);
});

test('an input that is a blob is there before the code starts; that it cannot be fetched is a failure of the network', async () => {
  const seen: Uint8Array[] = [];
  const blob = { sha256: 'ab'.repeat(32), sizeBytes: 2n };
  const fetched = open(
    (_, lease) => {
      seen.push(lease.input);
      return success('done');
    },
    1,
    async () => Uint8Array.of(1, 2),
  );
  fetched.work.accept([create(LeaseSchema, { taskId: '1', epoch: 1, attempt: 1, inputBlob: blob })]);
  await vi.waitFor(() => expect(fetched.outcomes()).toEqual(['1 success']), soon);
  expect(seen).toEqual([Uint8Array.of(1, 2)]);

  const missing = open(
    () => success('never'),
    1,
    () => Promise.reject(new Error('away')),
  );
  missing.work.accept([create(LeaseSchema, { taskId: '1', epoch: 1, attempt: 1, inputBlob: blob })]);
  await vi.waitFor(() => expect(missing.outcomes()).toEqual(['1 failure']), soon);
  expect(missing.results[0]!.outcome.value).toMatchObject({ type: FailureType.NETWORK_ERROR, message: 'away' });

  const stopped = open(
    () => success('never'),
    1,
    () => new Promise((_, reject) => setTimeout(() => reject(new Error('stopped')), 20)),
  );
  stopped.work.accept([create(LeaseSchema, { taskId: '1', epoch: 1, attempt: 1, inputBlob: blob })]);
  stopped.work.cancel('1', 1, 'not wanted');
  await vi.waitFor(() => expect(stopped.outcomes()).toEqual(['1 cancelled']), soon);
});

test('nothing begins once the lease time is over by the worker’s own clock; renewed, it goes on', async () => {
  const { work, shared, accept, outcomes } = open(() => success('done'));
  shared.leaseUntilMs = monotonicMs() - 1;
  accept(1, 2);
  await turns();
  expect(outcomes()).toEqual([]);
  expect(work.queued).toBe(2);
  shared.leaseUntilMs = monotonicMs() + 60_000;
  work.resume();
  await turns();
  expect(outcomes()).toEqual(['1 success', '2 success']);
});

const device = (uuid: string): BookedDevice => ({
  uuid,
  model: 'A100',
  memoryBytes: 100,
  freeMemoryBytes: 90,
  usable: true,
  simulated: true,
});

test('a lease with resources takes its room until its code has ended, goes before those without, and is handed back where it does not fit', async () => {
  const gates = new Map<string, () => void>();
  const devices = [device('d1'), device('d2')];
  const seen: (readonly string[])[] = [];
  const run = (context: AttemptContext) =>
    new Promise<Outcome>((resolve) => {
      seen.push(context.devices);
      gates.set(context.taskId, () => resolve(success(1)));
    });
  const { work, accounts, outcomes, accept } = open(run, 1, undefined, devices);
  const take = (id: number, uuids: string[], cpus = 1) =>
    work.accept([
      create(LeaseSchema, {
        taskId: String(id),
        epoch: 1,
        attempt: 1,
        executor: { case: 'function', value: {} },
        resources: { cpus, memoryBytes: 100n },
        devices: uuids,
      }),
    ]);
  const offered = () => {
    const { free, devices: free2 } = accounts.offered();
    return [free!.cpus, free!.memoryBytes, free2!.map((each) => each.uuid).join()];
  };
  expect(offered()).toEqual([4, 1_000n, 'd1,d2']);
  accept(1, 2);
  await turns();
  take(3, ['d1']);
  expect(offered()).toEqual([3, 900n, 'd2']);
  // Taken, unknown, ill, and too many CPUs.
  take(4, ['d1', 'd2']);
  take(5, ['d9']);
  take(6, [], 4);
  devices[1] = { ...devices[1]!, usable: false, reason: 'hot' };
  take(7, ['d2']);
  expect(outcomes()).toEqual(['4 returned', '5 returned', '6 returned', '7 returned']);
  expect(offered()).toEqual([3, 900n, '']);
  await turns();
  gates.get('1')!();
  await turns();
  expect([...gates.keys()]).toEqual(['1', '3']);
  // Given up, while its code goes on: the device is not free.
  work.lose('3', 1, 'gone');
  expect(offered()).toEqual([3, 900n, '']);
  expect(accounts.held).toBe(1);
  gates.get('3')!();
  await turns();
  expect(offered()).toEqual([4, 1_000n, 'd1']);
  // One that never began frees what it had at once.
  take(8, ['d1']);
  work.stopAccepting();
  expect(offered()).toEqual([4, 1_000n, 'd1']);
  expect(seen).toEqual([[], ['d1'], []]);
});

test('the next task of a device waits for it, holds nobody else up, and starts when the code before it has ended', async () => {
  const gates = new Map<string, () => void>();
  const devices = [device('d1')];
  const { work, accounts, outcomes, accept } = open(
    ({ taskId }) => new Promise<Outcome>((resolve) => gates.set(taskId, () => resolve(success(1)))),
    2,
    undefined,
    devices,
  );
  const take = (...ids: number[]) =>
    work.accept(
      ids.map((id) =>
        create(LeaseSchema, {
          taskId: String(id),
          epoch: 1,
          attempt: 1,
          executor: { case: 'function', value: {} },
          devices: ['d1'],
        }),
      ),
    );
  // Nothing is asked for ahead before it is known how long such tasks take.
  take(1);
  await turns();
  expect(work.nextDevices).toEqual([]);
  gates.get('1')!();
  await turns();
  take(2);
  await turns();
  expect(work.nextDevices).toEqual(['d1']);
  take(3);
  expect(work.nextDevices).toEqual([]);
  // A third one has no place; one without a device goes past the one that waits.
  take(4);
  accept(5);
  await turns();
  expect(outcomes()).toEqual(['1 success', '4 returned']);
  expect([...gates.keys()]).toEqual(['1', '2', '5']);
  // Its lease is another's by now, but its code goes on, and has the device as long.
  work.lose('2', 1, 'gone');
  await turns();
  expect(gates.has('3')).toBe(false);
  gates.get('2')!();
  await turns();
  expect(gates.has('3')).toBe(true);
  expect(accounts.held).toBe(1);
  // What waits goes back when others wait for work, when the worker stops, and where the device has fallen ill.
  take(6);
  expect(work.recall(1)).toBe(1);
  take(7);
  devices[0] = { ...devices[0]!, usable: false, reason: 'hot' };
  gates.get('3')!();
  await turns();
  devices[0] = device('d1');
  take(8, 9);
  await turns();
  work.stopAccepting();
  expect(outcomes().slice(2)).toEqual(['6 returned', '7 returned', '3 success', '9 returned']);
  gates.get('8')!();
  gates.get('5')!();
  await turns();
  expect(accounts.held).toBe(0);
  expect(work.queued).toBe(0);
});

test('tasks that take long on a device are not fetched ahead', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  let end = () => {};
  const run = () => new Promise<Outcome>((resolve) => (end = () => resolve(success(1))));
  const { work, shared } = open(run, 2, undefined, [device('d1')]);
  shared.leaseUntilMs = 2 ** 40;
  const take = (taskId: string) =>
    work.accept([
      create(LeaseSchema, { taskId, epoch: 1, attempt: 1, executor: { case: 'function', value: {} }, devices: ['d1'] }),
    ]);
  take('1');
  await turns();
  vi.advanceTimersByTime(60_000);
  end();
  await turns();
  take('2');
  await turns();
  expect(work.nextDevices).toEqual([]);
});

test('an input that is a blob is fetched while others run, once, and again where that failed', async () => {
  const gates: (() => void)[] = [];
  const inputs: string[] = [];
  const fetches: ((error?: Error) => void)[] = [];
  const { work, outcomes } = open(
    (_, { taskId, input }) => {
      inputs.push(`${taskId} ${new TextDecoder().decode(input)}`);
      return new Promise<Outcome>((resolve) => gates.push(() => resolve(success(1))));
    },
    1,
    () =>
      new Promise((resolve, reject) =>
        fetches.push((error) => (error ? reject(error) : resolve(new TextEncoder().encode('data')))),
      ),
  );
  const take = (id: number, sizeBytes = 4n) =>
    work.accept([
      create(LeaseSchema, {
        taskId: String(id),
        epoch: 1,
        attempt: 1,
        executor: { case: 'function', value: {} },
        inputBlob: { sha256: 'a', sizeBytes },
      }),
    ]);
  take(1);
  await turns();
  take(2);
  take(3);
  // More than is kept in memory: fetched when its turn comes.
  take(4, 2n ** 30n);
  expect(fetches).toHaveLength(3);
  fetches[0]!();
  fetches[1]!();
  fetches[2]!(new Error('the master is away'));
  for (const id of [1, 2, 3, 4]) {
    await vi.waitFor(() => {
      for (const fetched of fetches.slice(3)) fetched();
      expect(gates).toHaveLength(id);
    });
    gates[id - 1]!();
    await turns();
  }
  expect(inputs).toEqual(['1 data', '2 data', '3 data', '4 data']);
  expect(fetches).toHaveLength(5);
  expect(outcomes()).toHaveLength(4);
});
