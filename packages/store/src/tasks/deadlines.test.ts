import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openSql, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { closeSession, markStarted, renewSessions } from '../workers/sessions.ts';
import { nextStartDeadlineMs, overdueLeases, silentLeases, sweepStartDeadlines } from './deadlines.ts';
import { dropStaleProgress, writeSigns } from './progress.ts';
import { type Settlement, settleTasks } from './settle.ts';
import { promoteDue } from './waiting.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
});
afterAll(() => db.drop());
beforeEach(async () => {
  await sql.unsafe('truncate baton.start_deadlines, baton.progress, baton.leases, baton.ready, baton.waiting');
});

const within = (scheduleToStartMs: number) => ({ extra: { scheduleToStartMs } });
const over = (taskId: string) =>
  sql.unsafe(`update baton.start_deadlines set expires_at = clock_timestamp() - interval '1 ms' where task_id = $1`, [
    taskId,
  ]);
/** Time left of each deadline, s; null: there is none. */
async function left(taskId: string): Promise<number | null> {
  const [row] = await sql.unsafe(
    'select extract(epoch from expires_at - clock_timestamp())::double precision as s from baton.start_deadlines where task_id = $1',
    [taskId],
  );
  return row ? (row.s as number) : null;
}
const back = (lease: { taskId: string; epoch: number; sessionId: string }, change: Partial<Settlement> = {}) =>
  settleTasks(sql, [
    {
      taskId: lease.taskId,
      epoch: lease.epoch,
      sessionId: lease.sessionId,
      attempt: 'returned',
      next: 'ready',
      delayMs: null,
      budget: 'none',
      failure: null,
      ranUs: 0,
      ...change,
    },
  ]);
const renew = (sessionId: string) =>
  renewSessions(sql, [{ sessionId, leaseTtlMs: 600_000, metrics: null, number: '1' }]);

describe('schedule-to-start', () => {
  it('ends a task that nobody took: outcome, one event, and nothing left to sweep', async () => {
    const lane = await stage.lane('untaken');
    const [late] = await stage.submit(lane, 1, within(1));
    const [early] = await stage.submit(lane, 1, within(60_000));
    await over(late!);
    expect(await sweepStartDeadlines(sql, 10)).toEqual({
      ended: [
        {
          taskId: late,
          runId: null,
          failure: {
            type: 'TASK_TIMEOUT',
            nonRetryable: true,
            message: 'not started within 1 ms: no worker took it',
          },
        },
      ],
      unstarted: [],
    });
    expect(await stage.places([late!, early!])).toEqual(['outcomes', 'ready']);
    const [outcome] = await sql.unsafe('select state, epoch, attempt, failure from baton.outcomes where task_id = $1', [
      late!,
    ]);
    expect(outcome).toMatchObject({ state: 'failed', epoch: 0, attempt: 0, failure: { type: 'TASK_TIMEOUT' } });
    const types = await sql.unsafe('select types from baton.events where $1 = any(task_ids) order by id', [late!]);
    expect(types.map((r) => r.types)).toEqual(['{1}', '{6}']);
    expect(await left(late!)).toBeNull();
    expect(await sweepStartDeadlines(sql, 10)).toEqual({ ended: [], unstarted: [] });
  });

  it('ends nothing that is being claimed at that moment', async () => {
    const lane = await stage.lane('claimed');
    const [taskId] = await stage.submit(lane, 1, within(1));
    await over(taskId!);
    const claiming = openSql(db.url, { max: 1 });
    try {
      // A claim that has locked its row and has not committed: another master's.
      await claiming.unsafe('begin');
      await claiming.unsafe('select from baton.ready where task_id = $1 for update', [taskId!]);
      expect(await sweepStartDeadlines(sql, 10)).toEqual({ ended: [], unstarted: [] });
      expect(await left(taskId!)).toBeGreaterThan(0);
      await claiming.unsafe('commit');
    } finally {
      await claiming.end({ timeout: 1 });
    }
    await over(taskId!);
    expect((await sweepStartDeadlines(sql, 10)).ended.map((e) => e.taskId)).toEqual([taskId]);
  });

  it('names a lease that is not started a second after its grant, leaves a started one, and asks again', async () => {
    const lane = await stage.lane('prefetched');
    const session = await stage.session('prefetcher');
    const tasks = await stage.submit(lane, 2, within(1));
    const [queued, running] = await stage.claim(lane, session, 2);
    await markStarted(sql, session, [{ ...running!, started: true, ranMs: 5 }]);
    for (const taskId of tasks) await over(taskId);
    // Granted just now: its worker may be about to start it.
    expect(await sweepStartDeadlines(sql, 10)).toEqual({ ended: [], unstarted: [] });
    await sql.unsafe(`update baton.leases set granted_at = granted_at - interval '2 s'`);
    await over(queued!.taskId);
    expect(await sweepStartDeadlines(sql, 10)).toEqual({
      ended: [],
      unstarted: [{ taskId: queued!.taskId, sessionId: session }],
    });
    expect(await left(queued!.taskId)).toBeCloseTo(1, 0);
    // The started one keeps its row for a next attempt.
    expect(await left(running!.taskId)).toBeGreaterThan(50);
    // Handed back before it began: its time goes on, and is over.
    await over(queued!.taskId);
    await back(queued!);
    expect((await sweepStartDeadlines(sql, 10)).ended.map((e) => e.taskId)).toEqual([queued!.taskId]);
  });

  it('counts anew for each attempt, from when the retry is due', async () => {
    const lane = await stage.lane('anew');
    const session = await stage.session('anew');
    const [taskId] = await stage.submit(lane, 1, within(100_000));
    const [first] = await stage.claim(lane, session, 1);
    await over(taskId!);
    await back(first!, { attempt: 'failed', next: 'backoff', delayMs: 50_000, ranUs: 1000 });
    expect(await left(taskId!)).toBeCloseTo(150, 0);
    // Looked at too early: it counts from when it is due.
    await over(taskId!);
    expect(await sweepStartDeadlines(sql, 10)).toEqual({ ended: [], unstarted: [] });
    expect(await left(taskId!)).toBeCloseTo(150, 0);
    await sql.unsafe(`update baton.waiting set due_at = clock_timestamp() - interval '1 s' where task_id = $1`, [
      taskId!,
    ]);
    await promoteDue(sql, 10);
    await over(taskId!);
    expect((await sweepStartDeadlines(sql, 10)).ended.map((e) => e.taskId)).toEqual([taskId]);
    const [outcome] = await sql.unsafe('select epoch, attempt from baton.outcomes where task_id = $1', [taskId!]);
    expect(outcome).toMatchObject({ epoch: 1, attempt: 1 });
  });

  it('forgets tasks that have ended, and tells when the next time is over', async () => {
    const lane = await stage.lane('forgotten');
    const session = await stage.session('forgotten');
    expect(await nextStartDeadlineMs(sql)).toBeNull();
    const [taskId] = await stage.submit(lane, 1, within(100_000));
    expect(await nextStartDeadlineMs(sql)).toBeCloseTo(100_000, -3);
    await stage.complete(await stage.claim(lane, session, 1));
    await over(taskId!);
    expect(await nextStartDeadlineMs(sql)).toBe(0);
    expect(await sweepStartDeadlines(sql, 10)).toEqual({ ended: [], unstarted: [] });
    expect(await nextStartDeadlineMs(sql)).toBeNull();
  });

  it('ends each task once when six masters sweep while others claim and complete', async () => {
    const lane = await stage.lane('many');
    const session = await stage.session('many');
    const tasks = await stage.submit(lane, 600, within(1));
    await sql.unsafe(`update baton.start_deadlines set expires_at = clock_timestamp() - interval '1 ms'`);
    const ended: string[] = [];
    const completed: string[] = [];
    const sweep = async () => {
      for (let dry = 0; dry < 3; ) {
        const swept = await sweepStartDeadlines(sql, 40);
        ended.push(...swept.ended.map((e) => e.taskId));
        if (swept.ended.length === 0) dry++;
      }
    };
    const work = async () => {
      for (;;) {
        const grants = await stage.claim(lane, session, 20);
        if (grants.length === 0) return;
        completed.push(...(await stage.complete(grants)));
      }
    };
    await Promise.all([...Array.from({ length: 6 }, sweep), work(), work()]);
    await sweep();
    await work();
    expect([...ended, ...completed].sort()).toEqual(tasks.sort());
    const [{ n }] = (await sql.unsafe(
      `select count(*)::integer as n from (select unnest(task_ids) as id, unnest(types) as type from baton.events) e
       where type in (5, 6) and id = any($1::bigint[])`,
      [`{${tasks.join(',')}}`],
    )) as unknown as [{ n: number }];
    expect(n).toBe(600);
  });
});

describe('signs of tasks', () => {
  const sign = (lease: { taskId: string; epoch: number }, change: object = {}) => ({
    taskId: lease.taskId,
    epoch: lease.epoch,
    silentMs: 0,
    timeoutMs: 1_000,
    fraction: null,
    message: null,
    ...change,
  });
  const kept = async (taskId: string) =>
    (await sql.unsafe('select * from baton.progress where task_id = $1', [taskId]))[0];

  it('are kept of the lease that is held, and of no other epoch or session', async () => {
    const lane = await stage.lane('signs');
    const [session, other] = [await stage.session('signs'), await stage.session('signs other')];
    await stage.submit(lane, 1);
    const [lease] = await stage.claim(lane, session, 1);
    await writeSigns(sql, other, [sign(lease!)]);
    await writeSigns(sql, session, [sign({ ...lease!, epoch: 2 })]);
    expect(await kept(lease!.taskId)).toBeUndefined();
    await writeSigns(sql, session, [sign(lease!, { fraction: 0.25, message: 'a quarter' })]);
    expect(await kept(lease!.taskId)).toMatchObject({ epoch: 1, fraction: 0.25, message: 'a quarter' });
    // Nothing new said: what was said stays. An old sign does not make it older.
    const before = await kept(lease!.taskId);
    await writeSigns(sql, session, [sign(lease!, { silentMs: 60_000 })]);
    expect(await kept(lease!.taskId)).toEqual(before);
    await back(lease!);
    const [next] = await stage.claim(lane, other, 1);
    await writeSigns(sql, other, [sign(next!, { fraction: 0.1 })]);
    await writeSigns(sql, session, [sign(lease!, { fraction: 0.9 })]);
    expect(await kept(lease!.taskId)).toMatchObject({ epoch: 2, fraction: expect.closeTo(0.1), message: null });
  });

  it('that are too old at the last heartbeat name the lease; a silent worker and an outage do not', async () => {
    const lane = await stage.lane('silent');
    const session = await stage.session('silent');
    await stage.submit(lane, 2);
    const [silent, unlimited] = await stage.claim(lane, session, 2);
    await sql.unsafe(`update baton.leases set granted_at = granted_at - interval '1 minute'`);
    await writeSigns(sql, session, [
      sign(silent!, { silentMs: 5_000 }),
      sign(unlimited!, { silentMs: 50_000, timeoutMs: null }),
    ]);
    await sql.unsafe(`update baton.sessions set renewed_at = clock_timestamp() - interval '10 s' where id = $1`, [
      session,
    ]);
    // Nothing was heard of the worker since: its own lease time is for that.
    expect(await silentLeases(sql, 2_000)).toEqual([]);
    await renew(session);
    expect(await silentLeases(sql, 2_000)).toEqual([
      { taskId: silent!.taskId, epoch: 1, sessionId: session, timeoutMs: 1_000 },
    ]);
    expect(await silentLeases(sql, 6_000)).toEqual([]);
    await sql.unsafe(`update baton.sweeps set resumed_at = clock_timestamp() where name = 'sessions'`);
    expect(await silentLeases(sql, 2_000)).toEqual([]);
    await sql.unsafe(`update baton.sweeps set resumed_at = '-infinity' where name = 'sessions'`);
  });

  it('are forgotten with their lease', async () => {
    const lane = await stage.lane('stale signs');
    const session = await stage.session('stale signs');
    await stage.submit(lane, 3);
    const [ended, again, held] = await stage.claim(lane, session, 3);
    await writeSigns(
      sql,
      session,
      [ended!, again!, held!].map((lease) => sign(lease)),
    );
    await stage.complete([ended!]);
    await back(again!);
    await stage.claim(lane, session, 1);
    expect(await dropStaleProgress(sql, 10)).toBe(2);
    expect(await kept(held!.taskId)).toBeDefined();
    expect(await dropStaleProgress(sql, 10)).toBe(0);
  });
});

describe('start-to-close', () => {
  it('is over for a lease that was still going on when its worker last said that it lives', async () => {
    const lane = await stage.lane('overdue');
    const session = await stage.session('overdue');
    await stage.submit(lane, 1, { startToCloseMs: 1_000 });
    await stage.submit(lane, 1, { startToCloseMs: 600_000 });
    const grants = await stage.claim(lane, session, 2);
    await markStarted(
      sql,
      session,
      grants.map((g) => ({ ...g, started: true, ranMs: 0 })),
    );
    await sql.unsafe(
      `update baton.leases set granted_at = granted_at - interval '1 minute', started_at = started_at - interval '10 s'`,
    );
    await sql.unsafe(`update baton.sessions set renewed_at = clock_timestamp() - interval '30 s' where id = $1`, [
      session,
    ]);
    expect(await overdueLeases(sql, 2_000)).toEqual([]);
    await renew(session);
    expect(await overdueLeases(sql, 2_000)).toEqual([
      { taskId: grants[0]!.taskId, epoch: 1, sessionId: session, startToCloseMs: 1_000 },
    ]);
    expect(await overdueLeases(sql, 20_000)).toEqual([]);
    await closeSession(sql, session, 'test');
  });
});
