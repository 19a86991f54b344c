import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import type { Lane } from './lanes.ts';
import { internLane, internNamespace } from './lanes.ts';
import type { NewTask } from './new-task.ts';
import { dropExpiredKeys, lookUpKeys, submitTasks } from './submit.ts';
import { nextDueMs, promoteDue } from './waiting.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;
let lane: Lane;
let pools: Pools;

beforeAll(async () => {
  db = await migratedDatabase({ max: 10 });
  sql = db.sql;
  stage = scene(sql);
  lane = await stage.lane('submit');
  pools = openPools(db.url, { hot: 10 });
});
afterAll(async () => {
  await pools.end();
  await db.drop();
});

const hash = (text: string) => createHash('sha256').update(text).digest();
const keyed = (key: string, body = 'body', ttlMs = 60_000): Partial<NewTask> => ({
  idempotency: { scope: 'task:submit', key, bodyHash: hash(body), ttlMs },
});

async function count(table: string, where: string): Promise<number> {
  const [row] = await sql.unsafe(`select count(*)::integer as n from baton.${table} where ${where}`);
  return row!.n as number;
}

describe('submitting', () => {
  it('stores every field, rides small inputs along, and keeps large ones and those of other executors in tasks', async () => {
    const small = stage.task(lane, { priority: -3, maxAttempts: 2, encoding: 2, input: Uint8Array.of(0, 34, 92, 255) });
    const large = stage.task(lane, { input: new Uint8Array(1025) });
    const grpc = stage.task(lane, {
      extra: {
        executor: { address: 'a:1', method: 'm/n' },
        nodeId: '__proto__',
        runId: '9',
        labels: { 'q"\\': '{,}' },
      },
    });
    await submitTasks(sql, [small, large, grpc]);
    const rows = await sql.unsafe(
      `select t.*, y.input as rides from baton.tasks t join baton.ready y on y.task_id = t.id where t.id in ($1, $2, $3) order by t.id`,
      [small.id, large.id, grpc.id],
    );
    expect(rows[0]).toMatchObject({
      priority: -3,
      max_attempts: 2,
      input_encoding: 2,
      due_at: null,
      labels: null,
      start_to_close_ms: '3600000',
    });
    expect([...(rows[0]!.input as Uint8Array)]).toEqual([0, 34, 92, 255]);
    expect([...(rows[0]!.rides as Uint8Array)]).toEqual([0, 34, 92, 255]);
    expect(rows[1]!.rides).toBeNull();
    expect(rows[2]).toMatchObject({
      rides: null,
      node_id: '__proto__',
      run_id: '9',
      labels: { 'q"\\': '{,}' },
      executor_config: { address: 'a:1', method: 'm/n' },
    });
  });

  it('the same batch again is harmless, before and after its tasks were leased and completed', async () => {
    const session = await stage.session('again');
    const batch = [
      stage.task(lane),
      stage.task(lane, keyed('again')),
      stage.task(lane, { dueAtMs: Date.now() + 60_000 }),
    ];
    const ids = batch.map((t) => t.id);
    expect(await submitTasks(sql, batch)).toEqual(new Set(ids));
    const events = () => count('events', `task_ids && '{${ids.join(',')}}'::bigint[]`);
    const again = async (expected: string[]) => {
      const before = await events();
      expect(await submitTasks(sql, batch)).toEqual(new Set());
      expect(await stage.places(ids)).toEqual(expected);
      expect(await events()).toBe(before);
    };
    await again(['ready', 'ready', 'waiting']);
    await sql.unsafe('delete from baton.ready where task_id <> all($1::bigint[])', [`{${ids.join(',')}}`]);
    const grants = await stage.claim(lane, session, 2);
    await again(['leases', 'leases', 'waiting']);
    await stage.complete(grants);
    await again(['outcomes', 'outcomes', 'waiting']);
    expect(await stage.claim(lane, session, 10)).toEqual([]);
  });

  it('the same and overlapping batches at once, in any order, store each task once and do not deadlock', async () => {
    for (let round = 0; round < 10; round++) {
      const tasks = Array.from({ length: 200 }, (_, n) => stage.task(lane, n % 2 ? keyed(`once ${round} ${n}`) : {}));
      const orders = [tasks, [...tasks].reverse(), tasks.slice(50), [...tasks.slice(0, 150)].reverse()];
      const stored = await Promise.all(orders.map((batch) => submitTasks(pools.hot, batch)));
      expect(stored.flatMap((ids) => [...ids]).sort()).toEqual(tasks.map((t) => t.id).sort());
      expect(await stage.places(tasks.map((t) => t.id))).toEqual(tasks.map(() => 'ready'));
    }
  });

  it('leaves nothing behind when one row of a batch is bad', async () => {
    const batch = [stage.task(lane, keyed('bad')), stage.task(lane, { maxAttempts: 0 })];
    await expect(submitTasks(sql, batch)).rejects.toMatchObject({ code: '23514' });
    expect(await count('tasks', `id in (${batch.map((t) => t.id).join(',')})`)).toBe(0);
    expect(await lookUpKeys(sql, [{ namespaceId: 1, scope: 'task:submit', key: 'bad' }])).toEqual([null]);
  });
});

describe('an idempotency key', () => {
  it('stands for one task, however many submit with it at once', async () => {
    const tasks = Array.from({ length: 50 }, () => stage.task(lane, keyed('fifty')));
    const stored = await Promise.all(tasks.map((task) => submitTasks(pools.hot, [task])));
    const winners = stored.flatMap((ids) => [...ids]);
    expect(winners).toHaveLength(1);
    expect(await count('tasks', `idempotency_key = 'fifty'`)).toBe(1);
    expect(await count('ready', `task_id = ${winners[0]}`)).toBe(1);
    const [holder] = await lookUpKeys(sql, [{ namespaceId: 1, scope: 'task:submit', key: 'fifty' }]);
    expect(holder!.id).toBe(winners[0]);
    expect([...holder!.bodyHash]).toEqual([...hash('body')]);
  });

  it('stands for one task within one batch, and for another in another scope or namespace', async () => {
    const other = await internNamespace(sql, 'other');
    const batch = [stage.task(lane, keyed('batch')), stage.task(lane, keyed('batch', 'another body'))];
    const elsewhere = [
      stage.task(lane, { idempotency: { ...keyed('batch').idempotency!, scope: 'task:else' } }),
      stage.task({ ...lane, namespaceId: other }, keyed('batch')),
    ];
    expect([...(await submitTasks(sql, [...batch, ...elsewhere]))].sort()).toEqual(
      [batch[0]!, ...elsewhere].map((t) => t.id).sort(),
    );
    const keys = [
      { namespaceId: 1, scope: 'task:submit', key: 'free' },
      { namespaceId: other, scope: 'task:submit', key: 'batch' },
      { namespaceId: 1, scope: 'task:submit', key: 'batch' },
    ];
    expect((await lookUpKeys(sql, keys)).map((k) => k?.id ?? null)).toEqual([null, elsewhere[1]!.id, batch[0]!.id]);
  });

  it('is free again once its time is over and it was dropped', async () => {
    const [first, kept] = [stage.task(lane, keyed('short', 'a', -1)), stage.task(lane, keyed('long'))];
    await submitTasks(sql, [first, kept]);
    expect(await dropExpiredKeys(sql)).toBe(1);
    const second = stage.task(lane, keyed('short', 'b'));
    expect(await submitTasks(sql, [second, stage.task(lane, keyed('long'))])).toEqual(new Set([second.id]));
  });
});

describe('lanes', () => {
  it('and what they are made of are interned once, however many ask at once', async () => {
    const key = {
      namespaceId: 1,
      queue: 'new',
      kind: 'k',
      executor: 'grpc',
      taskClass: 'gpu',
      tags: ['a,b', '"'],
    } as const;
    const lanes = await Promise.all(Array.from({ length: 20 }, () => internLane(sql, key)));
    expect(new Set(lanes.map((l) => l.id)).size).toBe(1);
    expect(lanes[0]).toMatchObject({
      queue: 'new',
      executor: 'grpc',
      taskClass: 'gpu',
      tags: ['a,b', '"'],
      paused: false,
    });
    const namespaces = await Promise.all(Array.from({ length: 20 }, () => internNamespace(sql, 'fresh')));
    expect(new Set(namespaces).size).toBe(1);
  });

  it('of a paused queue begin paused', async () => {
    await sql.unsafe(`insert into baton.queues (namespace_id, name, paused) values (1, 'halted', true)`);
    expect((await stage.lane('halted')).paused).toBe(true);
  });
});

describe('what is due', () => {
  it('becomes ready in the order of its time, some at a time, each once, with several masters at it', async () => {
    const own = await stage.lane('due');
    const now = Date.now();
    const later = stage.task(own, { dueAtMs: now + 3_600_000 });
    const due = Array.from({ length: 100 }, (_, n) => stage.task(own, { dueAtMs: now - 1000 - n }));
    await submitTasks(sql, [later, ...due]);
    expect((await promoteDue(sql, 10)).moved).toBe(10);
    const oldest = due.slice(-10).map((t) => t.id);
    expect(await stage.places(oldest)).toEqual(oldest.map(() => 'ready'));
    const moved = await Promise.all(Array.from({ length: 6 }, () => promoteDue(pools.hot, 1000)));
    expect(moved.reduce((sum, m) => sum + m.moved, 0)).toBe(90);
    expect(new Set(moved.flatMap((m) => [...m.laneIds]))).toEqual(new Set([own.id]));
    expect(await stage.places(due.map((t) => t.id))).toEqual(due.map(() => 'ready'));
    expect(await stage.places([later.id])).toEqual(['waiting']);
    const next = await nextDueMs(sql);
    expect(next).toBeGreaterThan(0);
    expect(next).toBeLessThanOrEqual(3_600_000);
  });
});
