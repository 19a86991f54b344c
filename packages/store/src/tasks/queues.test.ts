import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPools, openSql, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { claimTasks } from './claim.ts';
import { internLane, lanesAfter } from './lanes.ts';
import { listQueues, QUEUE_COUNT_CAP, setQueuePaused } from './queues.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;
let pools: Pools[];

beforeAll(async () => {
  db = await migratedDatabase({ max: 8 });
  sql = db.sql;
  stage = scene(sql);
  pools = [1, 2, 3].map(() => openPools(db.url, { hot: 3, lease: 1, api: 1 }));
});
afterAll(async () => {
  await Promise.all(pools.map((p) => p.end()));
  await db.drop();
});

const laneOf = (queue: string, kind: string, on: Sql = sql) =>
  internLane(on, { namespaceId: 1, queue, kind, executor: 'function', taskClass: 'cpu_short', tags: [] });

const eventsOf = async (type: number) =>
  (await sql.unsafe('select count(*)::integer as n from baton.events where $1 = any(types)', [type]))[0]!.n as number;

describe('a pause', () => {
  it('stops grants from every lane of the queue, and from none of others, until it is lifted', async () => {
    const session = await stage.session('pauser');
    const [a, b, c] = [await laneOf('p1', 'a'), await laneOf('p1', 'b'), await laneOf('p2', 'a')];
    for (const lane of [a, b, c]) await stage.submit(lane, 2);
    const claim = () => claimTasks(sql, [a.id, b.id, c.id], [{ sessionId: session, count: 9 }]);
    const [paused, resumed] = [await eventsOf(20), await eventsOf(21)];
    expect(await setQueuePaused(sql, 1, 'p1', true)).toBe(false);
    expect(await setQueuePaused(sql, 1, 'p1', true)).toBe(true);
    expect((await claim()).map((g) => g.laneId)).toEqual([c.id, c.id]);
    expect(await setQueuePaused(sql, 1, 'p1', false)).toBe(true);
    expect(await setQueuePaused(sql, 1, 'p1', false)).toBe(false);
    expect(await claim()).toHaveLength(4);
    expect([(await eventsOf(20)) - paused, (await eventsOf(21)) - resumed]).toEqual([1, 1]);
  });

  it('holds for a queue that nobody has used yet, and what is unknown cannot go on', async () => {
    expect(await setQueuePaused(sql, 1, 'new', true)).toBe(false);
    expect((await laneOf('new', 'k')).paused).toBe(true);
    expect(await setQueuePaused(sql, 1, 'never heard of', false)).toBe(null);
  });

  it('is of its own namespace', async () => {
    const [{ id }] = (await sql.unsafe(
      `insert into baton.namespaces (name) values ('elsewhere') returning id`,
    )) as unknown as [{ id: number }];
    await laneOf('shared', 'k');
    await setQueuePaused(sql, id, 'shared', true);
    expect((await laneOf('shared', 'k')).paused).toBe(false);
  });

  it('is followed by no grant, whatever claims in the same moment', async () => {
    const sessions = await Promise.all(pools.map((_, i) => stage.session(`racer ${i}`)));
    for (let round = 0; round < 15; round++) {
      const lanes = await Promise.all(['a', 'b', 'c'].map((kind) => laneOf(`race ${round}`, kind)));
      for (const lane of lanes) await stage.submit(lane, 300);
      let over = false;
      let granted = 0;
      const claimers = pools.flatMap((pool, i) =>
        [0, 1, 2].map(async () => {
          while (!over)
            granted += (
              await claimTasks(
                pool.hot,
                lanes.map((l) => l.id),
                [{ sessionId: sessions[i]!, count: 3 }],
              )
            ).length;
        }),
      );
      await expect.poll(() => granted).toBeGreaterThan(20);
      await setQueuePaused(sql, 1, `race ${round}`, true);
      const [{ at, n }] = (await sql.unsafe(
        'select clock_timestamp()::text as at, count(*)::integer as n from baton.leases where lane_id = any($1::integer[])',
        [`{${lanes.map((l) => l.id)}}`],
      )) as unknown as [{ at: string; n: number }];
      over = true;
      await Promise.all(claimers);
      const [after] = await sql.unsafe(
        `select count(*)::integer as n, count(*) filter (where granted_at > $2::text::timestamptz)::integer as late
         from baton.leases where lane_id = any($1::integer[])`,
        [`{${lanes.map((l) => l.id)}}`, at],
      );
      expect(after).toEqual({ n, late: 0 });
      // Not vacuous: it came in the middle.
      expect(n).toBeLessThan(900);
    }
  });

  it('misses no lane that is being made in the same moment', async () => {
    for (let round = 0; round < 20; round++) {
      const queue = `made ${round}`;
      await laneOf(queue, 'first');
      const making = ['b', 'c', 'd'].map((kind, i) => laneOf(queue, kind, pools[i]!.api));
      await Promise.all([...making, setQueuePaused(sql, 1, queue, true)]);
      const open = await sql.unsafe(
        'select l.id from baton.lanes l join baton.routes r on r.id = l.route_id where r.queue = $1 and not l.paused',
        [queue],
      );
      expect(open).toHaveLength(0);
    }
  });
});

describe('a pause and a claim under way', () => {
  /** One connection, so that its statements are of one transaction between begin and commit. */
  async function inTransaction(work: (one: Sql) => Promise<void>): Promise<void> {
    const one = openSql(db.url, { max: 1 });
    try {
      await one.unsafe('begin');
      await work(one);
    } finally {
      await one.unsafe('commit').catch(() => {});
      await one.end({ timeout: 5 });
    }
  }
  const isWaiting = async (statement: string) =>
    (
      await sql.unsafe(
        `select count(*)::integer as n from pg_stat_activity
         where datname = current_database() and query like '%' || $1 || '%' and wait_event_type = 'Lock' and pid <> pg_backend_pid()`,
        [statement],
      )
    )[0]!.n === 1;

  it('the pause is not acknowledged before the claim is over', async () => {
    const lane = await laneOf('under way', 'k');
    const session = await stage.session('slow claimer');
    await stage.submit(lane, 5);
    const order: string[] = [];
    let pausing: Promise<unknown> | undefined;
    await inTransaction(async (one) => {
      expect(await claimTasks(one, [lane.id], [{ sessionId: session, count: 2 }])).toHaveLength(2);
      pausing = setQueuePaused(sql, 1, 'under way', true).then(() => order.push('paused'));
      await expect.poll(() => isWaiting('baton set queue paused')).toBe(true);
      order.push('claim ends');
    });
    await pausing;
    expect(order).toEqual(['claim ends', 'paused']);
    expect(await stage.claim(lane, session, 2)).toEqual([]);
  });

  it('the claim that waits for the pause grants nothing, though it began before', async () => {
    const [lane, other] = [await laneOf('decided', 'k'), await laneOf('undecided', 'k')];
    const session = await stage.session('early claimer');
    await stage.submit(lane, 5);
    await stage.submit(other, 5);
    let claiming: Promise<unknown[]> | undefined;
    await inTransaction(async (one) => {
      await setQueuePaused(one, 1, 'decided', true);
      claiming = claimTasks(sql, [lane.id, other.id], [{ sessionId: session, count: 20 }]);
      claiming.catch(() => {});
      await expect.poll(() => isWaiting('baton claim')).toBe(true);
    });
    expect((await claiming!).map((g) => (g as { laneId: number }).laneId)).toEqual(Array(5).fill(other.id));
  });
});

describe('what masters read of lanes', () => {
  it('names those that are paused, and those that became visible late', async () => {
    const late = await laneOf('late', 'k');
    const paused = await laneOf('held', 'k');
    const old = await laneOf('old', 'k');
    await setQueuePaused(sql, 1, 'held', true);
    await sql.unsafe(
      `update baton.lanes set created_at = clock_timestamp() - interval '1 h' where id = any($1::integer[])`,
      [`{${paused.id},${old.id}}`],
    );
    const seen = await lanesAfter(sql, 1_000_000);
    expect(seen.map((l) => l.id)).toEqual(expect.arrayContaining([late.id, paused.id]));
    expect(seen.map((l) => l.id)).not.toContain(old.id);
    expect(seen.find((l) => l.id === paused.id)!.paused).toBe(true);
  });
});

describe('the list of queues', () => {
  it('counts what is in each, and knows the oldest that is ready at any priority', async () => {
    const [a, b] = [await laneOf('counted', 'a'), await laneOf('counted', 'b')];
    const session = await stage.session('counter');
    const [oldest] = await stage.submit(a, 3, { priority: -5 });
    await stage.submit(a, 2, { priority: 3 });
    await stage.submit(b, 4);
    await stage.submit(b, 2, { dueAtMs: Date.now() + 60_000 });
    expect(await stage.claim(a, session, 1)).toHaveLength(1);
    const all = await listQueues(sql, { namespaceId: 1, afterName: '', limit: 1000 });
    const row = all.find((q) => q.name === 'counted')!;
    expect(row).toMatchObject({ paused: false, ready: 8, waiting: 2, leased: 1 });
    const [{ at }] = (await sql.unsafe('select baton.id_time($1) as at', [oldest!])) as unknown as [{ at: Date }];
    expect(row.oldestReady).toEqual(at);
  });

  it('counts up to a bound', async () => {
    const lane = await laneOf('large', 'a');
    await sql.unsafe(
      `insert into baton.ready (task_id, position, start_to_close_ms, lane_id, priority, max_attempts, input_encoding)
       select n, n, 1000, $1, 0, 4, 1 from generate_series(1, 10100) n`,
      [lane.id],
    );
    const [row] = await listQueues(sql, { namespaceId: 1, afterName: 'larg', limit: 1 });
    expect(row).toMatchObject({ name: 'large', ready: QUEUE_COUNT_CAP });
  });

  it('comes in pages by name', async () => {
    const all = await listQueues(sql, { namespaceId: 1, afterName: '', limit: 1000 });
    const names: string[] = [];
    for (let after = ''; ; after = names.at(-1)!) {
      const page = await listQueues(sql, { namespaceId: 1, afterName: after, limit: 7 });
      names.push(...page.map((q) => q.name));
      if (page.length < 7) break;
    }
    expect(names).toEqual(all.map((q) => q.name));
  });
});
