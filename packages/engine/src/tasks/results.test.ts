import { createIdMaker } from '@baton/domain';
import { claimTasks, internLane, openPools, type Pools, registerWorker, submitTasks } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { createBlobs } from '../data/blobs.ts';
import { createLaneBook } from '../dispatch/lane-book.ts';
import { silentLog } from '../environment.ts';
import { createCounters } from '../metrics.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { createResults, type Outcome, type Report, type Results } from './results.ts';

const ids = createIdMaker(9, Date.now);
const success: Outcome = { type: 'success', output: Uint8Array.of(0x31), encoding: 1 };
const failure: Outcome = { type: 'failure', failure: { type: 'EVALUATION_ERROR', message: 'no' } };

async function stage(): Promise<{
  results: Results;
  lease(session?: string): Promise<Omit<Report, 'outcome'>>;
  pools: Pools;
}> {
  const database = await testDatabase({ migrated: true });
  const pools = openPools(database.url);
  onTestFinished(async () => {
    await pools.end();
    await database.drop();
  });
  const environment = { pools, ids, settings: DEFAULT_SETTINGS, now: Date.now, random: Math.random, log: silentLog };
  const sinks = { onEnded() {}, onReady() {}, onBackoff() {}, onSettled() {} };
  const lanes = createLaneBook(environment);
  const results = createResults(environment, lanes, createBlobs(environment, lanes), createCounters(), sinks);
  const names = { queue: 'q', kind: 'k', executor: 'function', taskClass: 'cpu_short', tags: [] } as const;
  const lane = await internLane(pools.hot, { namespaceId: 1, ...names, tags: [] });
  const session = async () => {
    const sessionId = ids.next();
    const life = { sessionId, instanceId: sessionId, namespaceId: 1, name: 'w', capabilities: {}, metadata: {} };
    await registerWorker(pools.lease, { ...life, serviceUrl: '', version: '0', leaseTtlMs: 600_000 });
    return sessionId;
  };
  const sessionId = await session();
  return {
    results,
    pools,
    async lease() {
      const task = { id: ids.next(), namespaceId: 1, routeId: lane.routeId, laneId: lane.id, priority: 0 };
      const spec = { maxAttempts: 4, startToCloseMs: 60_000, encoding: 1, input: Uint8Array.of(0x31) } as const;
      await submitTasks(pools.hot, [{ ...task, ...spec, dueAtMs: null, idempotency: null, extra: null }]);
      const [grant] = await claimTasks(pools.hot, [lane.id], [{ sessionId, count: 1 }]);
      return { taskId: grant!.taskId, epoch: grant!.epoch, sessionId, ranUs: 1 };
    },
  };
}

const reasons = (verdicts: readonly ({ reason: string } | null)[]) =>
  verdicts.map((verdict) => verdict?.reason ?? 'taken');

test('a stale word in the same batch as the one that counts is refused', async () => {
  const { results, lease } = await stage();
  for (const outcome of [success, failure]) {
    const word = { ...(await lease()), outcome };
    const said = [{ ...word, epoch: 2 }, word, { ...word, sessionId: '1' }, word];
    const verdicts = await Promise.all(said.map((each) => results.report(each)));
    expect(reasons(verdicts)).toEqual(['LEASE_LOST', 'taken', 'LEASE_LOST', 'taken']);
  }
});

test('a repeated word is answered like the first, another word on the same lease is refused', async () => {
  const { results, lease } = await stage();
  for (const [first, second] of [
    [success, failure],
    [failure, success],
  ] as const) {
    const word = await lease();
    const verdicts: unknown[] = [];
    for (const outcome of [first, first, second, { type: 'returned' } as const])
      verdicts.push((await results.report({ ...word, outcome }))?.reason ?? 'taken');
    expect(verdicts).toEqual(['taken', 'taken', 'LEASE_LOST', 'LEASE_LOST']);
  }
});
