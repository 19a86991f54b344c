import { LeaseSchema, type OutputChunk, type RefusedResult, RefusedResultSchema } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { Attempt } from '../attempts/attempt.ts';
import { TaskStopped } from '../attempts/stop.ts';
import { SignBoard } from '../heartbeat/sign-board.ts';
import type { FakeMaster } from '../testing/fake-master.ts';
import { openWorker, recordingLogger, success } from '../testing/open-worker.ts';
import { OutputShipper, type OutputShipperOptions } from './output-shipper.ts';

const noSigns = { board: new SignBoard(), say: () => {} };
const noLogs = { append: () => {} };
const KIB = 1024;

/** A shipper whose calls the test answers. */
function openShipper(options: Partial<OutputShipperOptions> = {}) {
  const calls: {
    chunks: OutputChunk[];
    answer: (refused?: readonly RefusedResult[]) => void;
    fail: (error: Error) => void;
  }[] = [];
  let arrived = Promise.withResolvers<void>();
  const { log, lines } = recordingLogger();
  const shipper = new OutputShipper({
    log,
    send: (chunks) =>
      new Promise((resolve, reject) => {
        calls.push({ chunks, answer: (refused = []) => resolve(refused), fail: reject });
        arrived.resolve();
        arrived = Promise.withResolvers();
      }),
    ...options,
  });
  const attempt = (taskId = '7') => {
    const made = new Attempt(create(LeaseSchema, { taskId, epoch: 2, attempt: 1 }), noLogs, shipper, noSigns);
    made.phase = 'running';
    return made;
  };
  return {
    shipper,
    attempt,
    calls,
    lines,
    /** The n-th call, once it is there. */
    async call(n: number) {
      while (calls.length < n) await arrived.promise;
      return calls[n - 1]!;
    },
  };
}

/** What the master has of a task, checked to be without a gap. */
function joined(chunks: readonly OutputChunk[], taskId: string): string {
  let text = '';
  for (const chunk of chunks.filter((each) => each.taskId === taskId)) {
    expect(Number(chunk.offset)).toBe(text.length);
    text += new TextDecoder().decode(chunk.data);
  }
  return text;
}
const written = (master: FakeMaster, taskId: string) => joined(master.outputs, taskId);
const settledSoon = async (promise: Promise<unknown>) => {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  await new Promise((resolve) => setTimeout(resolve, 30));
  return settled;
};

test('all that a task wrote is kept before its success is handed in, awaited or not', async () => {
  const { master, worker } = await openWorker({
    tasks: {
      stream: async ({ output }) => {
        await output.write('text ');
        await output.write(new TextEncoder().encode('bytes '));
        for (let i = 0; i < 100; i++) void output.write(`${i},`);
        return success(null);
      },
    },
  });
  await worker.start();
  master.failOutputs = 2;
  const id = master.submit({ kind: 'stream' });
  const handedIn = master.result(id).then(() => written(master, id));
  expect(await handedIn).toBe(`text bytes ${Array.from({ length: 100 }, (_, i) => `${i},`).join('')}`);
});

test('a write waits for room, and memory stays bounded, however much is written', async () => {
  const { shipper, attempt, call } = openShipper();
  const one = attempt();
  const block = new Uint8Array(700 * KIB).fill(120);
  await one.output.write(block);
  const second = one.output.write(block);
  expect(await settledSoon(second)).toBe(false);
  expect(shipper.bufferedBytes).toBeLessThanOrEqual(1024 * KIB);
  const sent: OutputChunk[] = [];
  for (let n = 1; sent.reduce((sum, { data }) => sum + data.length, 0) < 2 * block.length; n++) {
    const { chunks, answer } = await call(n);
    sent.push(...chunks);
    expect(shipper.bufferedBytes).toBeLessThanOrEqual(1024 * KIB);
    answer();
  }
  await second;
  expect(joined(sent, '7')).toHaveLength(2 * block.length);
});

test('attempts share the buffer; each gets its turn', async () => {
  const { shipper, attempt, call, calls } = openShipper({ maxBufferBytes: 256 * KIB });
  const attempts = ['1', '2', '3', '4'].map(attempt);
  const text = 'y'.repeat(200 * KIB);
  const writes = attempts.map((each) => each.output.write(text));
  for (let n = 1; ; n++) {
    const { chunks, answer } = await call(n);
    expect(shipper.bufferedBytes).toBeLessThanOrEqual((256 + 4 * 64) * KIB);
    expect(chunks.reduce((sum, { data }) => sum + data.length, 0)).toBeLessThanOrEqual(1024 * KIB);
    answer();
    if (await settledSoon(Promise.all(writes))) break;
  }
  const done = attempts.map((each) => shipper.ended(each, true));
  for (let n = calls.length; !(await settledSoon(Promise.all(done))); n++) (await call(n)).answer();
  for (const { taskId } of attempts) {
    expect(
      joined(
        calls.flatMap(({ chunks }) => chunks),
        taskId,
      ),
    ).toBe(text);
  }
});

test('what was not acknowledged is sent again, from the same byte', async () => {
  const { attempt, call, shipper } = openShipper();
  const one = attempt();
  await one.output.write('abc');
  (await call(1)).fail(new ConnectError('no connection', Code.Unavailable));
  await one.output.write('def');
  const { chunks, answer } = await call(2);
  expect(joined(chunks, '7')).toBe('abcdef');
  answer();
  expect(await shipper.ended(one, true)).toBeUndefined();
});

test('bytes may be changed as soon as their write is done', async () => {
  const { attempt, call } = openShipper();
  const one = attempt();
  const reused = new TextEncoder().encode('first');
  await one.output.write(reused);
  reused.set(new TextEncoder().encode('other'));
  void one.output.write(reused);
  expect(joined((await call(1)).chunks, '7')).toBe('firstother');
});

test('a flood that nobody awaits breaks the output: its success becomes a failure that says what to do', async () => {
  const { master, worker } = await openWorker({
    tasks: {
      flood: ({ output }) => {
        for (let i = 0; i < 20; i++) void output.write(new Uint8Array(KIB * KIB));
        return Promise.resolve(success(null));
      },
    },
  });
  await worker.start();
  const result = await master.result(master.submit({ kind: 'flood' }));
  expect(result.outcome).toMatchObject({ case: 'failure', value: { exceptionType: 'OutputError' } });
  expect(JSON.stringify(result.outcome.value)).toContain('await ctx.output.write');
  await master.result(master.submit({ kind: 'noop' }));
});

test('a refusal rejects writes that wait and breaks the attempt; others go on', async () => {
  const { shipper, attempt, call } = openShipper();
  const [lost, fine] = [attempt('1'), attempt('2')];
  await lost.output.write('x');
  await fine.output.write('y');
  const refused = create(RefusedResultSchema, { taskId: '1', epoch: 2, reason: 'LEASE_LOST', message: 'not held' });
  (await call(1)).answer([refused]);
  expect(await shipper.ended(fine, true)).toBeUndefined();
  await expect(lost.output.write('more')).rejects.toThrow('LEASE_LOST');
  expect(String(await shipper.ended(lost, true))).toContain('LEASE_LOST');
});

test('a lost lease rejects what waits, with the reason of the stop', async () => {
  const { shipper, attempt } = openShipper();
  const one = attempt();
  void one.output.write(new Uint8Array(1024 * KIB));
  const waiting = one.output.write('x');
  one.requestStop('lost', 'leased anew');
  shipper.discard(one);
  await expect(waiting).rejects.toBeInstanceOf(TaskStopped);
  expect(shipper.bufferedBytes).toBe(0);
});

test('a master that does not know the call fails the attempt and not the worker', async () => {
  const { shipper, attempt, call } = openShipper();
  const one = attempt();
  await one.output.write('x');
  (await call(1)).fail(new ConnectError('unknown method', Code.Unimplemented));
  expect(String(await shipper.ended(one, true))).toContain('older version');
});

test('nothing is written after the end of the attempt', async () => {
  const { attempt } = openShipper();
  const one = attempt();
  one.phase = 'finished';
  await expect(one.output.write('late')).rejects.toThrow('over');
});

test('what a failed attempt wrote is waited for, but not for ever', async () => {
  const { shipper, attempt, lines } = openShipper({ flushTimeoutMs: 20 });
  const one = attempt();
  await one.output.write('never answered');
  expect(await shipper.ended(one, false)).toBeUndefined();
  expect(lines.map(({ message }) => message)).toContain('task output not acknowledged in time');
  expect(shipper.bufferedBytes).toBe(0);
});
