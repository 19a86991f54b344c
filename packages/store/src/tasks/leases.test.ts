import { compareIds } from '@baton/domain';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import {
  closeSession,
  compareHeld,
  drainWorker,
  markStarted,
  registerWorker,
  renewSessions,
} from '../workers/sessions.ts';
import { cancelTasks } from './cancel.ts';
import { claimHeads, claimTasks } from './claim.ts';
import { alreadyEnded } from './complete.ts';
import { type Settlement, settleTasks } from './settle.ts';
import { sweepSessions } from './sweep.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;
let pools: Pools;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
  pools = openPools(db.url);
});
afterAll(async () => {
  await pools.end();
  await db.drop();
});

const BACK: Omit<Settlement, 'taskId' | 'epoch' | 'sessionId'> = {
  attempt: 'returned',
  next: 'ready',
  delayMs: null,
  budget: 'none',
  failure: null,
  ranUs: 0,
};

/** Asks again after a deadlock, as the engine does: Postgres has undone all of the statement. */
async function persistently<T>(statement: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++)
    try {
      return await statement();
    } catch (error) {
      if ((error as { code?: string }).code !== '40P01' || tries === 6) throw error;
    }
}

async function rowsOf(taskId: string): Promise<unknown> {
  const [row] = await sql.unsafe(
    `select (select to_jsonb(l) from baton.leases l where task_id = $1) as lease, (select to_jsonb(r) from baton.ready r where task_id = $1) as ready,
            (select jsonb_agg(a order by epoch) from baton.attempts a where task_id = $1) as attempts, (select to_jsonb(o) from baton.outcomes o where task_id = $1) as outcome,
            (select count(*)::integer from baton.events where $1 = any(task_ids)) as events`,
    [taskId],
  );
  return row;
}

describe('the fence', () => {
  it('refuses to complete or settle with an epoch that is over, even for the session that holds the next one', async () => {
    const lane = await stage.lane('stale');
    const session = await stage.session('stale');
    const [taskId] = await stage.submit(lane, 1);
    const [first] = await stage.claim(lane, session, 1);
    expect(first).toMatchObject({ taskId, epoch: 1, attempt: 1 });
    expect(await settleTasks(sql, [{ ...BACK, ...word(first!) }])).toHaveLength(1);
    const [second] = await stage.claim(lane, session, 1);
    expect(second).toMatchObject({ taskId, epoch: 2, attempt: 1 });
    const before = await rowsOf(taskId!);
    expect(await stage.complete([first!])).toEqual([]);
    for (const next of ['ready', 'backoff', 'failed', 'cancelled'] as const)
      expect(await settleTasks(sql, [{ ...BACK, ...word(first!), next, delayMs: 0 }])).toEqual([]);
    expect(await rowsOf(taskId!)).toEqual(before);
    expect(await stage.complete([second!])).toEqual([taskId]);
    const after = await rowsOf(taskId!);
    expect(await stage.complete([second!])).toEqual([]);
    expect(await settleTasks(sql, [{ ...BACK, ...word(second!) }])).toEqual([]);
    expect(await rowsOf(taskId!)).toEqual(after);
    // Said twice by the same session: that is known. Said by the stale epoch: it is not.
    expect(await alreadyEnded(sql, [second!])).toEqual(new Set([taskId]));
    expect(await alreadyEnded(sql, [{ ...second!, sessionId: '1' }])).toEqual(new Set());
  });

  it('refuses a result of another session under the right epoch', async () => {
    const lane = await stage.lane('foreign');
    const [mine, other] = [await stage.session('mine'), await stage.session('other')];
    await stage.submit(lane, 1);
    const [grant] = await stage.claim(lane, mine, 1);
    expect(await stage.complete([{ ...grant!, sessionId: other }])).toEqual([]);
    expect(await stage.complete([grant!])).toEqual([grant!.taskId]);
  });

  it('takes one of two results in the same moment, in the same batch too', async () => {
    const lane = await stage.lane('race');
    const session = await stage.session('race');
    await stage.submit(lane, 50);
    const grants = await stage.claim(lane, session, 50);
    const settle = grants.map((g) => ({ ...BACK, ...word(g), attempt: 'failed' as const, next: 'failed' as const }));
    const [completed, completedAgain, settled] = await Promise.all([
      stage.complete([...grants, ...grants]),
      stage.complete([...grants].reverse()),
      settleTasks(sql, settle),
    ]);
    const all = [...completed, ...completedAgain, ...settled.map((s) => s.taskId)];
    expect(all.sort()).toEqual(grants.map((g) => g.taskId).sort());
    const [{ n }] = (await sql.unsafe('select count(*)::integer as n from baton.attempts where session_id = $1', [
      session,
    ])) as unknown as [{ n: number }];
    expect(n).toBe(50);
  });

  it('takes every result though leases are being marked as started and asked to stop at that moment', async () => {
    const lane = await stage.lane('updated');
    const session = await stage.session('updated');
    for (let round = 0; round < 10; round++) {
      await stage.submit(lane, 200);
      const grants = await stage.claim(lane, session, 200);
      const held = grants.map((g) => ({ ...word(g), started: true, ranMs: 5 }));
      const ids = grants.map((g) => g.taskId);
      const failed = { ...BACK, attempt: 'failed', next: 'failed' } as const;
      const [completed, settled] = await Promise.all([
        persistently(() => stage.complete(grants.slice(0, 100), sql)),
        persistently(() =>
          settleTasks(
            pools.hot,
            grants.slice(100).map((g) => ({ ...failed, ...word(g) })),
          ),
        ),
        persistently(() => markStarted(pools.lease, session, held)),
        persistently(() => cancelTasks(pools.api, [...ids].reverse(), 'enough')),
        persistently(() => markStarted(sql, session, [...held].reverse())),
      ]);
      expect([completed.length, settled.length]).toEqual([100, 100]);
    }
  });

  it.each(['plans left to statistics', 'pinned plans'])(
    'does not deadlock when batches come in opposite order (%s)',
    async (plans) => {
      const lane = await stage.lane(`opposite ${plans}`);
      const session = await stage.session(`opposite ${plans}`);
      const on = plans === 'pinned plans' ? pools.hot : sql;
      for (let round = 0; round < 15; round++) {
        await stage.submit(lane, 300);
        const grants = await stage.claim(lane, session, 300);
        const back = (order: typeof grants) =>
          settleTasks(
            on,
            order.map((g) => ({ ...BACK, ...word(g) })),
          );
        const reversed = [...grants].reverse();
        const ended = await Promise.all([stage.complete(grants, on), stage.complete(reversed, on), back(reversed)]);
        expect(ended.flat()).toHaveLength(300);
        await stage.complete(await stage.claim(lane, session, 300));
      }
    },
  );
});

describe('the claim', () => {
  it('never grants one task twice, however many claims there are at once', async () => {
    const lane = await stage.lane('parallel');
    const other = openPools(db.url, { hot: 4 });
    try {
      const tasks = [...(await stage.submit(lane, 1000)), ...(await stage.submit(lane, 1000, { priority: 5 }))];
      const sessions = await Promise.all(Array.from({ length: 8 }, (_, n) => stage.session(`parallel ${n}`)));
      const granted: string[] = [];
      const loop = async (n: number) => {
        const on = n % 2 ? pools.hot : other.hot;
        for (let dry = 0; dry < 3; ) {
          const wants = [0, 1].map((k) => ({ sessionId: sessions[(n + k) % 8]!, count: 7 }));
          const grants = await claimTasks(on, [lane.id], wants);
          granted.push(...grants.map((g) => g.taskId));
          if (grants.length === 0) dry++;
        }
      };
      await Promise.all(Array.from({ length: 12 }, (_, n) => loop(n)));
      expect(granted.sort()).toEqual(tasks.sort());
      const [{ n }] = (await sql.unsafe(
        'select count(*)::integer as n from baton.leases where lane_id = $1 and epoch = 1',
        [lane.id],
      )) as unknown as [{ n: number }];
      expect(n).toBe(2000);
    } finally {
      await other.end();
    }
  });

  it('takes higher priorities first, then older tasks, over all lanes together', async () => {
    const [a, b] = [await stage.lane('order a'), await stage.lane('order b')];
    const session = await stage.session('order');
    const low = await stage.submit(a, 2);
    const high = await stage.submit(b, 2, { priority: 1 });
    const later = await stage.submit(b, 1);
    const grants: string[] = [];
    for (let n = 0; n < 5; n++)
      grants.push(...(await claimTasks(sql, [a.id, b.id], [{ sessionId: session, count: 1 }])).map((g) => g.taskId));
    expect(grants).toEqual([...high, ...low, ...later]);
  });

  it('takes the oldest of many lanes, and before them all that is urgent in one', async () => {
    const lanes = await Promise.all(Array.from({ length: 40 }, (_, n) => stage.lane(`wide ${n}`)));
    const laneIds = lanes.map((lane) => lane.id);
    const session = await stage.session('wide');
    const old: string[] = [];
    for (let round = 0; round < 5; round++) for (const lane of lanes) old.push(...(await stage.submit(lane, 1)));
    const urgent = await stage.submit(lanes[17]!, 90, { priority: 1 });
    const claim = async (count: number) => {
      const { grants, isDry } = await claimHeads(sql, laneIds, [{ sessionId: session, count }]);
      return { ids: grants.map((g) => g.taskId).sort(compareIds), isDry };
    };
    expect(await claim(60)).toEqual({ ids: urgent.slice(0, 60), isDry: false });
    expect(await claim(60)).toEqual({ ids: [...old.slice(0, 30), ...urgent.slice(60)], isDry: false });
    expect(await claim(60)).toEqual({ ids: old.slice(30, 90), isDry: false });
    expect(await claim(100)).toEqual({ ids: old.slice(90, 190), isDry: false });
    expect(await claim(100)).toEqual({ ids: old.slice(190), isDry: true });
  });

  it('takes what comes first of many lanes, whatever the priorities in each', async () => {
    const lanes = await Promise.all(Array.from({ length: 40 }, (_, n) => stage.lane(`mixed ${n}`)));
    const session = await stage.session('mixed');
    const waiting: { id: string; priority: number }[] = [];
    for (let n = 0; n < 600; n++) {
      const priority = (n * 7_919) % 13;
      const [id] = await stage.submit(lanes[n % 40]!, 1, { priority });
      waiting.push({ id: id!, priority });
    }
    waiting.sort((a, b) => b.priority - a.priority || compareIds(a.id, b.id));
    while (waiting.length > 0) {
      const grants = await claimTasks(
        sql,
        lanes.map((lane) => lane.id),
        [{ sessionId: session, count: 64 }],
      );
      const first = waiting.splice(0, 64);
      expect(grants.map((g) => g.taskId).sort(compareIds)).toEqual(first.map(({ id }) => id).sort(compareIds));
    }
  });

  it('does not call lanes dry of which one has more than a claim over many looks at', async () => {
    const lanes = await Promise.all(Array.from({ length: 100 }, (_, n) => stage.lane(`uneven ${n}`)));
    const session = await stage.session('uneven');
    for (const lane of lanes.slice(0, 20)) await stage.submit(lane, 2);
    await stage.submit(lanes[0]!, 200);
    const counts: number[] = [];
    for (let isDry = false; !isDry; ) {
      const claimed = await claimHeads(
        sql,
        lanes.map((lane) => lane.id),
        [{ sessionId: session, count: 60 }],
      );
      counts.push(claimed.grants.length);
      isDry = claimed.isDry;
    }
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(240);
    expect(counts[0]).toBeLessThan(60);
    expect(await sql.unsafe('select 1 from baton.ready where lane_id = $1', [lanes[0]!.id])).toHaveLength(0);
  });

  it('grants nothing from a paused lane, and what waited there once it goes on', async () => {
    const lane = await stage.lane('paused');
    const session = await stage.session('paused');
    await stage.submit(lane, 3);
    await sql.unsafe('update baton.lanes set paused = true where id = $1', [lane.id]);
    expect(await stage.claim(lane, session, 3)).toEqual([]);
    await sql.unsafe('update baton.lanes set paused = false where id = $1', [lane.id]);
    expect(await stage.claim(lane, session, 3)).toHaveLength(3);
  });

  it('tells of one lane that gave all that was asked for whether it has more', async () => {
    const lane = await stage.lane('more');
    const session = await stage.session('more');
    const claim = async (count: number) => {
      const { grants, isDry } = await claimHeads(sql, [lane.id], [{ sessionId: session, count }]);
      return [grants.length, isDry];
    };
    await stage.submit(lane, 3);
    expect(await claim(2)).toEqual([2, false]);
    expect(await claim(1)).toEqual([1, true]);
    expect(await claim(1)).toEqual([0, true]);
    await stage.submit(lane, 1, { priority: -1 });
    await stage.submit(lane, 1, { priority: 5 });
    // What is behind has a lower priority, and was there before.
    expect(await claim(1)).toEqual([1, false]);
    expect(await claim(2)).toEqual([1, true]);
  });

  it.each<[string, (session: string, worker: string) => Promise<unknown>]>([
    ['draining', (_, worker) => drainWorker(sql, 1, worker, 'test')],
    ['expired', (session) => expire(session)],
    ['closed', (session) => closeSession(sql, session, 'test')],
    ['replaced', (_, worker) => stage.session(worker)],
  ])('grants nothing to a session that is %s, and its share to nobody else', async (how, end) => {
    const lane = await stage.lane(`refused ${how}`);
    const session = await stage.session(`refused ${how}`);
    const alive = await stage.session(`alive beside ${how}`);
    const tasks = await stage.submit(lane, 4);
    await end(session, `refused ${how}`);
    const wants = [session, alive].map((sessionId) => ({ sessionId, count: 2 }));
    const grants = await claimTasks(sql, [lane.id], wants);
    expect(grants.map((g) => [g.sessionId, g.taskId]).sort()).toEqual(tasks.slice(2).map((id) => [alive, id]));
    expect(await stage.places(tasks)).toEqual(['ready', 'ready', 'leases', 'leases']);
    expect(await claimTasks(sql, [lane.id], [{ sessionId: session, count: 4 }])).toEqual([]);
    expect(await claimTasks(sql, [lane.id], [{ sessionId: '12345', count: 4 }])).toEqual([]);
  });
});

const register = (name: string, instanceId: string) =>
  registerWorker(sql, {
    sessionId: stage.nextId(),
    namespaceId: 1,
    name,
    instanceId,
    capabilities: {},
    serviceUrl: '',
    version: '0',
    metadata: {},
    leaseTtlMs: 600_000,
  });

describe('sessions', () => {
  it('are not taken from the newer life of a worker by a late or repeated registration of the older', async () => {
    const older = await stage.session('lives');
    const newer = await stage.session('lives');
    const states = async () =>
      (
        await sql.unsafe(
          `select s.state, s.shutdown, s.id = w.session_id as current from baton.sessions s join baton.workers w on w.id = s.worker_id
           where s.id in ($1, $2) order by s.id`,
          [older, newer],
        )
      ).map((r) => [r.state, r.shutdown, r.current]);
    const expected = [
      ['draining', true, false],
      ['active', false, true],
    ];
    expect(await states()).toEqual(expected);
    expect((await register('lives', older)).sessionId).toBe('');
    await closeSession(sql, older, 'test');
    expect((await register('lives', older)).sessionId).toBe('');
    expect((await states())[1]).toEqual(expected[1]);
    expect((await register('lives', newer)).sessionId).toBe(newer);
    expect((await states())[1]).toEqual(expected[1]);
  });

  it('are one session when a registration is sent twenty times at once', async () => {
    const instance = stage.nextId();
    const answers = await Promise.all(Array.from({ length: 20 }, () => register('twenty', instance)));
    expect(new Set(answers.map((a) => a.sessionId)).size).toBe(1);
    const rows = await sql.unsafe(
      `select s.state, s.id = w.session_id as current from baton.sessions s join baton.workers w on w.id = s.worker_id where w.name = 'twenty'`,
    );
    expect(rows.map((r) => [r.state, r.current])).toEqual([['active', true]]);
  });

  it('name leases that were granted a while ago and that the worker never heard of', async () => {
    const lane = await stage.lane('unheard');
    const session = await stage.session('unheard');
    await stage.submit(lane, 3);
    const grants = await stage.claim(lane, session, 3);
    const [heard, unheard, stale] = grants;
    const held = [
      { ...word(heard!), started: true, ranMs: 1 },
      { ...word(stale!), epoch: 7, started: true, ranMs: 1 },
    ];
    const now = async () => (await sql.unsafe('select clock_timestamp()::text as now'))[0]!.now as string;
    const before = await now();
    expect(await compareHeld(sql, session, held, before, 60_000)).toEqual({
      unheard: [],
      lost: [{ taskId: stale!.taskId, epoch: 7 }],
    });
    await sql.unsafe(`update baton.leases set granted_at = granted_at - interval '2 minutes' where session_id = $1`, [
      session,
    ]);
    const found = await compareHeld(sql, session, held, await now(), 60_000);
    // A list of long ago, looked at now: it says nothing of what was granted since.
    const old = await compareHeld(sql, session, held, '2020-01-01 00:00:00+00', 60_000);
    expect(old.unheard).toEqual([]);
    expect(found.unheard.map((l) => l.taskId).sort()).toEqual([unheard!.taskId, stale!.taskId].sort());
    expect(found.unheard.every((l) => l.epoch === 1)).toBe(true);
    // Handed back, they cost no attempt.
    await settleTasks(
      sql,
      found.unheard.map((l) => ({ ...BACK, ...l, sessionId: session })),
    );
    const again = await stage.claim(lane, session, 3);
    expect(again.map((g) => [g.epoch, g.attempt])).toEqual([
      [2, 1],
      [2, 1],
    ]);
  });

  it('are not renewed after their time, unless the sweep was away', async () => {
    const session = await stage.session('late');
    const renew = () => renewSessions(sql, [{ sessionId: session, leaseTtlMs: 60_000, metrics: null, number: '1' }]);
    await setLastSweep('0 s');
    expect((await renew()).get(session)).toMatchObject({ state: 'active', count: 0, xor: '0' });
    await expire(session);
    expect(await renew()).toEqual(new Map());
    await setLastSweep('4 s');
    expect((await renew()).get(session)).toMatchObject({ state: 'active' });
    await closeSession(sql, session, 'test');
    expect(await renew()).toEqual(new Map());
    await setLastSweep('0 s');
  });

  it('answer a renewal with a digest of what they hold, and what is to be cancelled', async () => {
    const lane = await stage.lane('digest');
    const session = await stage.session('digest');
    await stage.submit(lane, 5);
    const grants = await stage.claim(lane, session, 5);
    await sql.unsafe(`update baton.leases set cancel_reason = 'enough' where task_id = $1`, [grants[0]!.taskId]);
    const beat = async (number: string) =>
      (await renewSessions(sql, [{ sessionId: session, leaseTtlMs: 60_000, metrics: { load: 1 }, number }])).get(
        session,
      )!;
    const answer = await beat('8');
    // A late one learns that a newer one was there.
    expect([answer.beat, (await beat('3')).beat]).toEqual(['8', '8']);
    const xor = grants.reduce((x, g) => x ^ BigInt(g.taskId) ^ (BigInt(g.epoch) << 40n), 0n);
    expect(answer).toMatchObject({ count: 5, xor: BigInt.asIntN(64, xor).toString() });
    expect(answer.cancels).toEqual([{ taskId: grants[0]!.taskId, epoch: 1, reason: 'enough' }]);
  });

  it('are extended by the gap when nobody swept for a while, and closed when somebody did', async () => {
    const [first, second] = [await stage.session('gap 1'), await stage.session('gap 2', { leaseTtlMs: 3_600_000 })];
    await expire(first);
    const expiries = async () =>
      (
        await sql.unsafe(
          'select extract(epoch from expires_at)::double precision as at from baton.sessions where id in ($1, $2) order by id',
          [first, second],
        )
      ).map((r) => r.at as number);
    const before = await expiries();
    await setLastSweep('1 hour');
    expect((await sweepSessions(sql)).filter((s) => s.now)).toEqual([]);
    const after = await expiries();
    for (const n of [0, 1]) {
      expect(after[n]! - before[n]!).toBeGreaterThanOrEqual(3600);
      expect(after[n]! - before[n]!).toBeLessThan(3660);
    }
    await expire(first);
    const closed = (await sweepSessions(sql)).filter((s) => s.now).map((s) => s.sessionId);
    expect(closed).toContain(first);
    expect(closed).not.toContain(second);
  });

  it('are swept by one of many masters at a time', async () => {
    const over = await Promise.all(Array.from({ length: 5 }, (_, n) => stage.session(`swept ${n}`)));
    for (const session of over) await expire(session);
    await setLastSweep('0 s');
    const sweeps = await Promise.all(Array.from({ length: 8 }, () => sweepSessions(sql)));
    const closed = sweeps.flat().filter((s) => s.now && over.includes(s.sessionId));
    expect(closed.map((s) => s.sessionId).sort()).toEqual(over.sort());
  });

  it('are the same for one instance that registers again, and one at most is active for a worker', async () => {
    const registration = (instanceId: string) => ({
      sessionId: stage.nextId(),
      namespaceId: 1,
      name: 'twice',
      instanceId,
      capabilities: {},
      serviceUrl: '',
      version: '0',
      metadata: {},
      leaseTtlMs: 60_000,
    });
    const first = await registerWorker(sql, registration('a'));
    expect(await registerWorker(sql, registration('a'))).toEqual(first);
    for (let round = 0; round < 20; round++) {
      const lives = ['x', 'y', 'z'].map((life) => registerWorker(sql, registration(`${round}${life}`)));
      const sessions = (await Promise.all(lives)).map((r) => r.sessionId);
      const active = await sql.unsafe(
        `select s.id, w.session_id from baton.sessions s join baton.workers w on w.id = s.worker_id where w.name = 'twice' and s.state = 'active'`,
      );
      expect(active.map((r) => r.id)).toEqual([active[0]!.session_id]);
      expect(sessions).toContain(active[0]!.id);
    }
    await closeSession(sql, (await registerWorker(sql, registration('b'))).sessionId, 'left');
    expect((await registerWorker(sql, registration('b'))).sessionId).toBe('');
  });
});

function word(grant: { taskId: string; epoch: number; sessionId: string }) {
  return { taskId: grant.taskId, epoch: grant.epoch, sessionId: grant.sessionId };
}

async function expire(session: string): Promise<void> {
  await sql.unsafe(`update baton.sessions set expires_at = clock_timestamp() - interval '1 ms' where id = $1`, [
    session,
  ]);
}

async function setLastSweep(ago: string): Promise<void> {
  await sql.unsafe(`update baton.sweeps set last_at = clock_timestamp() - $1::text::interval where name = 'sessions'`, [
    ago,
  ]);
}
