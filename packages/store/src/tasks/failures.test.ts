import type { FailureType } from '@baton/domain';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import type { Grant } from './claim.ts';
import {
  type DeadPage,
  type FailureKey,
  type FailurePage,
  listDead,
  listFailures,
  readFailureStatistics,
  readWishes,
} from './failures.ts';
import { internNamespace, type Lane } from './lanes.ts';
import { type Settlement, settleTasks } from './settle.ts';
import { submitTasks } from './submit.ts';

let db: MigratedDatabase;
let sql: Sql;
let pools: Pools;
let stage: Scene;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
  pools = openPools(db.url, { hot: 1, lease: 1, api: 2 });
});
afterAll(async () => {
  await pools.end();
  await db.drop();
});

async function fail(grants: readonly Grant[], type: FailureType, next: 'ready' | 'failed'): Promise<void> {
  await settleTasks(
    sql,
    grants.map(
      (g): Settlement => ({
        taskId: g.taskId,
        epoch: g.epoch,
        sessionId: g.sessionId,
        attempt: type === 'WORKER_CRASH' ? 'lost' : 'failed',
        next,
        delayMs: null,
        budget: 'application',
        failure: { type, message: `made up: ${type}` },
        ranUs: 1,
      }),
    ),
  );
}

/** Claims and fails all that is ready in the lane. */
async function failAll(lane: Lane, session: string, type: FailureType, next: 'ready' | 'failed'): Promise<string[]> {
  const grants = await stage.claim(lane, session, 1000);
  await fail(grants, type, next);
  return grants.map((g) => g.taskId);
}

const page = (change: Partial<FailurePage>): FailurePage => ({
  namespaceId: 1,
  worker: null,
  taskId: null,
  types: [],
  sinceMs: null,
  after: null,
  limit: 1000,
  ...change,
});

const dead = (change: Partial<DeadPage>): DeadPage => ({
  namespaceId: 1,
  queue: null,
  kind: null,
  types: [],
  includeResent: false,
  before: null,
  limit: 1000,
  ...change,
});

describe('failures', () => {
  it('are listed newest first, each once, over pages of any size, though many are of one microsecond', async () => {
    const lane = await stage.lane('paged');
    const session = await stage.session('paged');
    const ids = await stage.submit(lane, 40);
    await failAll(lane, session, 'UNKNOWN', 'ready');
    await failAll(lane, session, 'GPU_ERROR', 'ready');
    // To the microsecond: four times, ten failures of each epoch at each.
    await sql.unsafe(
      `update baton.attempts set ended_at = timestamptz '2026-01-05 10:00:00.000001Z' + (task_id % 4) * interval '1 microsecond' where session_id = $1`,
      [session],
    );
    for (const filter of [{ worker: 'paged' }, {}]) {
      const all = (await listFailures(pools.api, page(filter))).filter((f) => f.worker === 'paged');
      expect(all).toHaveLength(80);
      const keys = all.map((f) => [f.atUs, f.taskId, f.epoch].join());
      expect(new Set(keys).size).toBe(80);
      expect(all.map((f) => BigInt(f.atUs))).toEqual(all.map((f) => BigInt(f.atUs)).sort((a, b) => Number(b - a)));
      expect(all[0]!.atUs.endsWith('000004')).toBe(true);
      for (const limit of [1, 7, 33]) {
        const found: string[] = [];
        let after: FailureKey | null = null;
        for (;;) {
          const rows = await listFailures(pools.api, page({ ...filter, after, limit }));
          found.push(...rows.filter((f) => f.worker === 'paged').map((f) => [f.atUs, f.taskId, f.epoch].join()));
          if (rows.length < limit) break;
          after = rows.at(-1)!;
        }
        expect(found).toEqual(keys);
      }
    }
    expect(new Set(ids).size).toBe(40);
  });

  it('are found by worker, by task, by type and by time, and in their namespace only', async () => {
    const lane = await stage.lane('filters');
    const [one, two] = [await stage.session('filters 1'), await stage.session('filters 2')];
    const [task] = await stage.submit(lane, 1);
    await failAll(lane, one, 'NETWORK_ERROR', 'ready');
    await failAll(lane, two, 'WORKER_CRASH', 'ready');
    const typesOf = async (change: Partial<FailurePage>) =>
      (await listFailures(pools.api, page(change))).filter((f) => f.taskId === task).map((f) => f.failure.type);
    expect(await typesOf({ worker: 'filters 1' })).toEqual(['NETWORK_ERROR']);
    expect(await typesOf({ taskId: task! })).toEqual(['WORKER_CRASH', 'NETWORK_ERROR']);
    expect(await typesOf({ types: ['WORKER_CRASH', 'GPU_ERROR'] })).toEqual(['WORKER_CRASH']);
    expect(await typesOf({ worker: 'filters 1', types: ['WORKER_CRASH'] })).toEqual([]);
    const [latest] = await listFailures(pools.api, page({ taskId: task! }));
    expect(latest).toMatchObject({ attemptState: 'lost', worker: 'filters 2', taskState: 'ready', epoch: 2 });
    expect(await typesOf({ sinceMs: latest!.at.getTime() + 1 })).toEqual([]);
    expect(await typesOf({ sinceMs: latest!.at.getTime() })).toContain('WORKER_CRASH');
    const elsewhere = await internNamespace(sql, 'elsewhere');
    for (const change of [{}, { worker: 'filters 1' }, { taskId: task! }])
      expect(await listFailures(pools.api, page({ ...change, namespaceId: elsewhere }))).toEqual([]);
  });

  it('are counted by type, by worker and by what became of their tasks', async () => {
    await using fresh = await migratedDatabase();
    const on = scene(fresh.sql);
    const lane = await on.lane('counted');
    const [one, two] = [await on.session('one'), await on.session('two')];
    const settle = (grants: readonly Grant[], type: FailureType, next: Settlement['next']) =>
      settleTasks(
        fresh.sql,
        grants.map(({ taskId, epoch, sessionId }) => ({
          taskId,
          epoch,
          sessionId,
          next,
          attempt: 'failed',
          delayMs: null,
          budget: 'application',
          failure: { type, message: '' },
          ranUs: 1,
        })),
      );
    await on.submit(lane, 5);
    const grants = await on.claim(lane, one, 5);
    await settle(grants.slice(0, 2), 'GPU_ERROR', 'ready');
    await settle(grants.slice(2, 3), 'EVALUATION_ERROR', 'failed');
    await on.complete(grants.slice(3, 4));
    const again = await on.claim(lane, two, 2);
    await on.complete(again.slice(0, 1));
    await settle(again.slice(1), 'UNKNOWN', 'ready');
    expect(await readFailureStatistics(fresh.sql, 1, 60_000)).toEqual({
      failures: 4,
      byType: [
        { type: 'GPU_ERROR', count: 2 },
        { type: 'EVALUATION_ERROR', count: 1 },
        { type: 'UNKNOWN', count: 1 },
      ],
      byWorker: [
        { worker: 'one', count: 3, machineMade: 2 },
        { worker: 'two', count: 1, machineMade: 0 },
      ],
      workersAffected: 2,
      tasksAffected: 3,
      tasksRecovered: 1,
      tasksFailed: 1,
      tasksOpen: 1,
      breakersOpen: 0,
    });
    await fresh.sql.unsafe(
      `update baton.attempts set ended_at = ended_at - interval '2 minutes' where worker_id = (select id from baton.workers where name = 'one')`,
    );
    expect(await readFailureStatistics(fresh.sql, 1, 60_000)).toMatchObject({
      failures: 1,
      byType: [{ type: 'UNKNOWN' }],
    });
    expect(await readFailureStatistics(fresh.sql, 2, 60_000)).toMatchObject({ failures: 0, byType: [], byWorker: [] });
  });
});

describe('dead tasks', () => {
  it('are those that failed for good, without those that were sent again, by pages', async () => {
    const lane = await stage.lane('dead');
    const session = await stage.session('dead');
    await stage.submit(lane, 6);
    const ids = (await failAll(lane, session, 'EVALUATION_ERROR', 'failed')).sort().reverse();
    const ofQueue = async (change: Partial<DeadPage> = {}) =>
      (await listDead(pools.api, dead({ queue: 'dead', ...change }))).map((d) => [d.task.id, d.resentAs]);
    expect(await ofQueue()).toEqual(ids.map((id) => [id, null]));
    // Sent again twice: the newest is named.
    const again = [
      stage.task(lane, { extra: { retryOf: ids[2]! } }),
      stage.task(lane, { extra: { retryOf: ids[2]! } }),
    ];
    await submitTasks(sql, again);
    expect(await ofQueue()).toEqual(ids.filter((id) => id !== ids[2]).map((id) => [id, null]));
    expect((await ofQueue({ includeResent: true }))[2]).toEqual([ids[2], again[1]!.id]);
    expect(await ofQueue({ limit: 2 })).toEqual([ids[0], ids[1]].map((id) => [id, null]));
    expect(await ofQueue({ limit: 2, before: ids[1]! })).toEqual([ids[3], ids[4]].map((id) => [id, null]));
    expect(await ofQueue({ types: ['GPU_ERROR'] })).toEqual([]);
    expect(await ofQueue({ types: ['GPU_ERROR', 'EVALUATION_ERROR'] })).toHaveLength(5);
    expect(await ofQueue({ kind: 'other' })).toEqual([]);
    const [first] = await listDead(pools.api, dead({ queue: 'dead' }));
    expect(first!.task).toMatchObject({
      kind: 'dead',
      state: 'failed',
      failure: { type: 'EVALUATION_ERROR' },
      input: null,
    });
  });

  it('are read as they were asked for', async () => {
    const lane = await stage.lane('wish');
    const [id] = await stage.submit(lane, 1, {
      priority: 3,
      maxAttempts: 2,
      extra: {
        labels: { a: 'b' },
        retry: { factor: 3 },
        executor: { address: 'x', method: 'y/z' },
        scheduleToStartMs: 5000,
      },
    });
    expect((await readWishes(pools.api, 1, [id!, '7'])).get(id!)).toMatchObject({
      ended: null,
      kind: 'wish',
      queue: 'wish',
      priority: 3,
      maxAttempts: 2,
      labels: { a: 'b' },
      retry: { factor: 3 },
      executorConfig: { address: 'x', method: 'y/z' },
      scheduleToStartMs: 5000,
      progressTimeoutMs: null,
      input: Buffer.of(0x31),
      inputBlob: null,
    });
    expect((await readWishes(pools.api, 2, [id!])).size).toBe(0);
  });
});
