import { createBaton } from '@baton/client';
import { FailureType, TaskClass } from '@baton/contract';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { rawWorker } from './raw-worker.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;
const GIB = 2 ** 30;
const OOM = { type: FailureType.OUT_OF_MEMORY, message: 'killed by the kernel' };
const retry = { maxAttempts: 1, initialDelayMs: 1 };
const memory = (gib: number) => ({ memoryBytes: BigInt(gib * GIB) });

test.concurrent('a task without memory is tried once more, on a machine that has more, whatever its attempts', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0 });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const small = stage.own(await rawWorker(stack.url, 'small', memory(2)));
  const [first, second] = [
    await baton.submit({ kind: 'work', input: 1, retry }),
    await baton.submit({ kind: 'work', input: 1, retry }),
  ];

  // The only other one is no bigger: failed at once, saying so.
  const same = stage.own(await rawWorker(stack.url, 'same', memory(2)));
  const [lease] = await small.take(1);
  await small.fail(lease!, OOM);
  await expect(first.result()).rejects.toThrow(
    /killed by the kernel; no living worker that could take it has more than 2\.0 GiB; the largest is \w+ with 2\.0 GiB$/,
  );

  const big = stage.own(await rawWorker(stack.url, 'big', memory(8)));
  // One that has more and cannot do it does not count, nor does one that only says so.
  stage.own(await rawWorker(stack.url, 'other', { ...memory(64), kinds: ['else'] }));
  await expect(rawWorker(stack.url, 'liar', { ...memory(1), tags: ['memory>99'] })).rejects.toThrow('reserved');
  const [again] = await small.take(1);
  expect(again!.taskId).toBe(second.id);
  await small.fail(again!, OOM);
  await until(async () => (await second.status()).state === 'ready', 'the retry to be due');
  expect(await small.take(4, 500)).toEqual([]);
  expect(await same.take(4, 500)).toEqual([]);
  const [bigger] = await big.take(4);
  expect(bigger).toMatchObject({ taskId: second.id, attempt: 2 });
  await big.fail(bigger!, OOM);
  await expect(second.result()).rejects.toThrow('it ran out of memory again on a bigger machine (big: 8.0 GiB)');

  const { attempts, tags } = await second.status();
  expect(attempts).toMatchObject([{ worker: 'small', retryDelayMs: 1 }, { worker: 'big' }]);
  expect(tags).toEqual([]);
  // Sent again, it begins without that demand.
  const [resent] = await baton.tasks.resend([second.id]);
  const anywhere = await small.take(1);
  expect(resent).toMatchObject({ taskId: anywhere[0]!.taskId });
  await small.succeed(anywhere[0]!);
  expect(await ledger.problems([first.id, second.id])).toEqual([]);
});

test.concurrent('a task for GPUs goes to a larger GPU than the one that was named', { timeout }, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0 });
  const baton = createBaton({ url: stack.url });
  const gpu = (uuid: string, gib: number) => ({ uuid, memoryBytes: BigInt(gib * GIB) });
  const taskClasses = [TaskClass.GPU];
  const one = stage.own(await rawWorker(stack.url, 'one', { taskClasses, gpus: [gpu('a', 16)], ...memory(512) }));
  const task = await baton.submit({ kind: 'work', taskClass: 'gpu', input: 1, retry });
  const [lease] = await one.take(1);
  const two = stage.own(
    await rawWorker(stack.url, 'two', { taskClasses, gpus: [gpu('b', 8), gpu('c', 24)], ...memory(8) }),
  );
  await one.fail(lease!, { ...OOM, device: 'a' });
  const [bigger] = await two.take(1);
  expect(bigger!.taskId).toBe(task.id);
  await two.succeed(bigger!);
  expect(await task.result()).toBe(1);
});

test.concurrent('a worker that was lost again and again has its task wait, and the delay is kept with the attempt', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, masterEnv: { BATON_LEASE_TTL_MS: '1000', BATON_HEARTBEAT_MS: '300' } });
  const baton = createBaton({ url: stack.url });
  const task = await baton.submit({ kind: 'work', input: 1 });
  for (let life = 1; life <= 2; life++) {
    const worker = await rawWorker(stack.url, `w${life}`);
    expect(await worker.take(1)).toHaveLength(1);
    // It says nothing any more.
    await worker[Symbol.asyncDispose]();
    await until(async () => (await task.status()).attempts.at(-1)?.state === 'lost', 'the loss to be noticed');
  }
  const { attempts, state } = await task.status();
  expect(attempts.map((attempt) => attempt.retryDelayMs)).toEqual([undefined, 1_000]);
  expect(['backoff', 'ready']).toContain(state);
});
