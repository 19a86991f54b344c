import { createBaton } from '@baton/client';
import { FailureType } from '@baton/contract';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { rawWorker } from './raw-worker.ts';
import { openStage } from './stage.ts';

const timeout = 120_000;

test('what failed for good can be looked at and sent again, once for each key, with all that it was', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0 });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const worker = stage.own(await rawWorker(stack.url, 'w'));
  const spec = {
    kind: 'work',
    queue: 'night',
    input: { a: 1 },
    priority: 7,
    retry: { maxAttempts: 2, initialDelayMs: 1, factor: 3 },
    labels: { team: 'a' },
    startToCloseTimeoutMs: 5_000,
  };
  const task = await baton.submit({ ...spec, idempotencyKey: 'its own' });
  for (const type of [FailureType.GPU_ERROR, FailureType.EVALUATION_ERROR, FailureType.GPU_ERROR]) {
    const [lease] = await worker.take(1, 5_000);
    await worker.fail(lease!, { type, message: `no: ${FailureType[type]}`, ...(type === 6 && { device: 'GPU-x' }) });
  }
  await expect(task.result()).rejects.toThrow('no: GPU_ERROR');
  expect(await baton.tasks.dead().all()).toMatchObject([{ task: { id: task.id, state: 'failed', queue: 'night' } }]);
  expect(await baton.tasks.dead({ types: ['EVALUATION_ERROR'] }).all()).toEqual([]);

  // Of one device and of the worker; each attempt is a record.
  const failures = await baton.tasks.failures({ pageSize: 1 }).all();
  expect(failures.map(({ type, attempt, device, recovered }) => [type, attempt, device, recovered])).toEqual([
    ['GPU_ERROR', 3, 'GPU-x', false],
    ['EVALUATION_ERROR', 2, undefined, false],
    ['GPU_ERROR', 1, 'GPU-x', false],
  ]);
  expect(await baton.tasks.failures({ worker: 'w', types: ['EVALUATION_ERROR'] }).all()).toHaveLength(1);
  expect(await baton.tasks.failures({ taskId: task.id, since: new Date(Date.now() + 60_000) }).all()).toEqual([]);
  await expect(baton.tasks.failures({ taskId: task.id, worker: 'w' }).all()).rejects.toMatchObject({
    reason: 'INVALID_REQUEST',
  });

  // Twenty at once, and the same again later: one new task. Another key: another one.
  const many = await Promise.all(Array.from({ length: 20 }, () => baton.tasks.resend([task.id])));
  const ids = new Set(many.map(([resent]) => ('taskId' in resent! ? resent.taskId : 'refused')));
  expect(ids.size).toBe(1);
  const [id] = ids;
  expect(many.filter(([resent]) => 'deduplicated' in resent! && !resent.deduplicated)).toHaveLength(1);
  const [other] = await baton.tasks.resend([task.id], { idempotencyKey: 'second try' });
  expect(other).toMatchObject({ of: task.id, deduplicated: false });
  expect(await baton.tasks.dead().all()).toEqual([]);
  expect(await baton.tasks.dead({ includeResent: true }).all()).toMatchObject([
    { task: { id: task.id }, resentAs: (other as { taskId: string }).taskId },
  ]);

  const again = await baton.tasks.get(id!);
  expect(again).toMatchObject({
    retryOf: task.id,
    kind: 'work',
    queue: 'night',
    state: 'ready',
    input: { a: 1 },
    priority: 7,
    labels: { team: 'a' },
    startToCloseTimeoutMs: 5_000,
    maxAttempts: 2,
    attempt: 0,
    retry: { factor: 3, initialDelayMs: 1 },
  });
  // What has not ended, or is not there, is refused by itself.
  expect(await baton.tasks.resend([id!, '9', task.id])).toMatchObject([
    { of: id, refused: { code: 'failed_precondition', reason: 'TASK_NOT_ENDED' } },
    { of: '9', refused: { code: 'not_found', reason: 'TASK_NOT_FOUND' } },
    { of: task.id, taskId: id, deduplicated: true },
  ]);
  const leases = await worker.take(2);
  for (const lease of leases) await worker.succeed(lease);
  expect(await baton.tasks.handle(id!).result()).toBe(1);
  // One that succeeded can be sent again too.
  expect(await baton.tasks.resend([id!])).toMatchObject([{ deduplicated: false }]);
  for (const lease of await worker.take(1)) await worker.succeed(lease);
  expect(await baton.tasks.failureStatistics()).toMatchObject({
    failures: 3,
    byType: [
      { type: 'GPU_ERROR', count: 2 },
      { type: 'EVALUATION_ERROR', count: 1 },
    ],
    byWorker: [{ worker: 'w', count: 3, machineMade: 2 }],
    tasksAffected: 1,
    tasksFailed: 1,
    tasksRecovered: 0,
  });
  expect(await ledger.problems([task.id, id!])).toEqual([]);
});
