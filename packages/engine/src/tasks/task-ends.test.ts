import { createIdMaker } from '@baton/domain';
import { openPools, type Sql, type TaskEnd } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';
import type { Capabilities } from '../dispatch/ability.ts';
import { createEngine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { MAX_ANSWER_BYTES } from './task-ends.ts';

const capabilities: Capabilities = {
  taskClasses: ['cpu_short'],
  tags: [],
  executors: ['function'],
  kinds: ['work'],
  queues: [],
  slots: 100,
};
const text = (end: TaskEnd) => end.output && new TextDecoder().decode(end.output);
const never = () => new AbortController().signal;

/** Masters over one database whose periodic duties rest, and a worker. `reads` counts the looks of the first. */
async function scene(masters = 1) {
  const database = await testDatabase({ migrated: true });
  const reads: string[] = [];
  const engines = Array.from({ length: masters }, (_, n) => {
    const pools = openPools(database.url, { hot: 1, lease: 1, api: 2 });
    const api = new Proxy(pools.api, {
      get(target, property) {
        if (property !== 'unsafe') return Reflect.get(target, property) as unknown;
        return (...args: Parameters<Sql['unsafe']>) => {
          const name = /^\/\* baton (.*?) \*\//.exec(args[0])?.[1];
          if (n === 0 && name === 'read ends') reads.push(name);
          return target.unsafe(...args);
        };
      },
    });
    const engine = createEngine({
      pools: { ...pools, api },
      ids: createIdMaker(30 + n, Date.now),
      settings: DEFAULT_SETTINGS,
      now: Date.now,
      random: Math.random,
      endOfTurn: setImmediate,
      log: silentLog,
    });
    onTestFinished(async () => {
      await engine.stop();
      await pools.end();
    });
    return engine;
  });
  onTestFinished(() => database.drop());
  const [engine] = engines;
  const about = { instanceId: 'w', capabilities, serviceUrl: '', version: '0', metadata: {} };
  const { sessionId } = await engine!.sessions.register('default', { name: 'w', ...about });
  const namespaceId = await engine!.lanes.namespaceId('default');
  let number = 0n;
  /** Tasks that run. */
  const running = async (count: number) => {
    const retry = { maxAttempts: 1 };
    const submitted = await Promise.all(
      Array.from({ length: count }, () => engine!.submitter.submit('default', { kind: 'work', retry })),
    );
    const offer = { number: ++number, freeSlots: count };
    const { assignments } = await engine!.sessions.exchange({ sessionId, results: [], offer, waitMs: 5_000 });
    expect(assignments).toHaveLength(count);
    return submitted.map(({ taskId }) => taskId);
  };
  const end = (results: readonly (readonly [taskId: string, output: string | Uint8Array | null])[], by = engine!) =>
    by.sessions.exchange({
      sessionId,
      results: results.map(([taskId, output]) => ({
        taskId,
        epoch: 1,
        ranUs: 1_000,
        outcome:
          output === null
            ? { type: 'failure', failure: { type: 'UNKNOWN', message: 'no' } }
            : {
                type: 'success',
                output: typeof output === 'string' ? new TextEncoder().encode(output) : output,
                encoding: 1,
              },
      })),
      offer: null,
      waitMs: 0,
    });
  const wait = (ids: readonly string[], waitMs = 20_000, abort = never(), of = namespaceId) =>
    engine!.taskEnds.wait(of, ids, waitMs, abort);
  return { engines, running, end, wait, reads };
}

test('who waits for many looks once, and is told what comes out by whoever writes it', async () => {
  const { running, end, wait, reads } = await scene();
  const ids = await running(4);
  const waited = wait(ids);
  await expect.poll(() => reads.length).toBe(1);
  await end([
    [ids[2]!, '"c"'],
    [ids[0]!, '"a"'],
  ]);
  const { ends, missing } = await waited;
  expect(ends.map((each) => [each.taskId, each.state, text(each)]).sort()).toEqual(
    [
      [ids[0], 'succeeded', '"a"'],
      [ids[2], 'succeeded', '"c"'],
    ].sort(),
  );
  expect(missing).toEqual([]);
  expect(reads).toHaveLength(1);
});

test('what failed and what was cancelled is told with its failure and its reason', async () => {
  const { engines, running, end, wait, reads } = await scene();
  const [failing, cancelled] = await running(2);
  const { taskId: waiting } = await engines[0]!.submitter.submit('default', { kind: 'other' });
  const first = wait([failing!]);
  await expect.poll(() => reads.length).toBe(1);
  await end([[failing!, null]]);
  expect((await first).ends).toMatchObject([
    { taskId: failing, state: 'failed', output: null, failure: { message: 'no' } },
  ]);
  const second = wait([waiting, cancelled!]);
  await expect.poll(() => reads.length).toBe(3);
  await engines[0]!.tasks.cancel('default', waiting, 'enough');
  expect((await second).ends).toMatchObject([{ taskId: waiting, state: 'cancelled', cancelReason: 'enough' }]);
});

test('what has ended is answered at once, and what is no task of the namespace is missing', async () => {
  const { running, end, wait } = await scene();
  const ids = await running(3);
  await end([[ids[1]!, '2']]);
  const { ends, missing } = await wait([...ids, '77']);
  expect(ends.map(({ taskId }) => taskId)).toEqual([ids[1]]);
  expect(missing).toEqual(['77']);
  expect(await wait(ids, 20_000, never(), 4_711)).toEqual({ ends: [], missing: ids });
});

test('an answer is not larger than what one holds, and the next has the rest', async () => {
  const { running, end, wait, reads } = await scene();
  const ids = await running(6);
  const large = new Uint8Array(MAX_ANSWER_BYTES / 2).fill(0x20);
  large[0] = 0x31;
  const waited = wait(ids);
  await expect.poll(() => reads.length).toBe(1);
  await end(ids.map((id) => [id, large]));
  const left = new Set(ids);
  const answers: number[] = [];
  for (let answer = await waited; ; answer = await wait([...left])) {
    answers.push(answer.ends.length);
    for (const { taskId, output } of answer.ends) {
      expect(output?.byteLength).toBe(large.byteLength);
      expect(left.delete(taskId)).toBe(true);
    }
    if (left.size === 0) break;
  }
  expect(Math.max(...answers)).toBeLessThanOrEqual(3);
});

test('what another master has ended, of which nobody was told, is found', async () => {
  const { engines, running, end, wait, reads } = await scene(2);
  const ids = await running(2);
  const waited = wait(ids);
  await expect.poll(() => reads.length).toBe(1);
  await end([[ids[0]!, '1']], engines[1]!);
  expect((await waited).ends).toMatchObject([{ taskId: ids[0], state: 'succeeded' }]);
});

test('a wait ends with its time, and with its call', async () => {
  const { running, wait } = await scene();
  const ids = await running(1);
  expect(await wait(ids, 0)).toEqual({ ends: [], missing: [] });
  expect(await wait(ids, 30)).toEqual({ ends: [], missing: [] });
  const leave = new AbortController();
  const waited = wait(ids, 60_000, leave.signal);
  leave.abort();
  expect(await waited).toEqual({ ends: [], missing: [] });
});
