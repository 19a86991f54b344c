import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { openSql, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { drainSession, markStarted, renewSessions } from '../workers/sessions.ts';
import { cancelTasks } from './cancel.ts';
import { recallFor, recallTasks, takeOrders } from './recall.ts';

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
  await sql.unsafe('truncate baton.leases, baton.ready');
});

const age = () => sql.unsafe(`update baton.leases set granted_at = granted_at - interval '2 s'`);
const renew = async (sessionId: string, number = '1') =>
  (await renewSessions(sql, [{ sessionId, leaseTtlMs: 600_000, metrics: null, number }])).get(sessionId)!;

it('asks the session with the most unstarted leases in these lanes, once, and says so once with its heartbeat', async () => {
  const [lane, other] = [await stage.lane('wanted'), await stage.lane('other')];
  const [most, less, waiting] = [
    await stage.session('most'),
    await stage.session('less'),
    await stage.session('waits'),
  ];
  await stage.submit(lane, 10);
  await stage.submit(other, 9);
  const held = await stage.claim(lane, most, 6);
  await stage.claim(lane, less, 4);
  await stage.claim(other, less, 9);
  // Granted just now: they may be started at any moment.
  expect(await recallFor(sql, [lane.id], [waiting])).toBeNull();
  await age();
  await markStarted(sql, most, [{ ...held[0]!, started: true, ranMs: 1 }]);
  expect(await recallFor(sql, [lane.id], [waiting])).toEqual({ sessionId: most, count: 5 });
  // It has not answered yet: the next one is asked.
  expect(await recallFor(sql, [lane.id], [waiting])).toEqual({ sessionId: less, count: 4 });
  expect(await recallFor(sql, [lane.id], [waiting])).toBeNull();
  expect(await renew(most)).toMatchObject({ recall: 5 });
  expect(await renew(most, '2')).toMatchObject({ recall: 0 });
});

it('takes nothing from one that is held up for another that is held up, too', async () => {
  const lane = await stage.lane('held up');
  const [one, two, idle] = [await stage.session('one'), await stage.session('two'), await stage.session('idle')];
  await stage.submit(lane, 5);
  await stage.claim(lane, one, 3);
  await stage.claim(lane, two, 2);
  await age();
  // Both would fetch more ahead.
  expect(await recallFor(sql, [lane.id], [one, two])).toBeNull();
  expect(await recallFor(sql, [lane.id], [one, two, idle])).toEqual({ sessionId: one, count: 3 });
});

it('asks nobody that is gone, and nothing of what is to be stopped', async () => {
  const lane = await stage.lane('gone');
  const [gone, waiting] = [await stage.session('gone'), await stage.session('waits for gone')];
  const tasks = await stage.submit(lane, 3);
  await stage.claim(lane, gone, 3);
  await age();
  await cancelTasks(sql, tasks.slice(0, 1), 'enough');
  await sql.unsafe(`update baton.sessions set expires_at = clock_timestamp() - interval '1 s' where id = $1`, [gone]);
  expect(await recallFor(sql, [lane.id], [waiting])).toBeNull();
  await sql.unsafe(`update baton.sessions set expires_at = clock_timestamp() + interval '1 minute' where id = $1`, [
    gone,
  ]);
  expect(await recallFor(sql, [lane.id], [waiting])).toEqual({ sessionId: gone, count: 2 });
});

it('asks once when four masters ask at the same time', async () => {
  const lane = await stage.lane('masters');
  const [holder, waiting] = [await stage.session('holder'), await stage.session('waits for masters')];
  await stage.submit(lane, 50);
  await stage.claim(lane, holder, 50);
  await age();
  const asked = await Promise.all(Array.from({ length: 4 }, () => recallFor(sql, [lane.id], [waiting])));
  expect(asked.filter((recall) => recall !== null)).toEqual([{ sessionId: holder, count: 50 }]);
});

it('names as many as reach back to the lease that is wanted, because the newest come first', async () => {
  const lane = await stage.lane('back to');
  const session = await stage.session('back to');
  await stage.submit(lane, 5);
  const grants = [];
  for (let n = 0; n < 5; n++) grants.push(...(await stage.claim(lane, session, 1)));
  await markStarted(sql, session, [{ ...grants[4]!, started: true, ranMs: 1 }]);
  expect(await recallTasks(sql, [grants[2]!.taskId])).toEqual([{ sessionId: session, count: 2 }]);
  expect(await recallTasks(sql, [grants[3]!.taskId])).toEqual([]);
  expect(await recallTasks(sql, [grants[4]!.taskId])).toEqual([]);
});

it('what there is to say to a session is found at any master: a recall once, cancels until they are done', async () => {
  const lane = await stage.lane('orders');
  const session = await stage.session('orders');
  const tasks = await stage.submit(lane, 3);
  const grants = await stage.claim(lane, session, 3);
  const nothing = { sessionId: session, state: 'active', shutdown: false, recall: 0, cancels: [] };
  expect(await takeOrders(sql, [session, '1'])).toEqual([nothing]);
  await age();
  await recallFor(sql, [lane.id], ['1']);
  await cancelTasks(sql, [tasks[1]!], 'enough');
  const cancels = [{ taskId: tasks[1], epoch: 1, reason: 'enough' }];
  const answers = await Promise.all([takeOrders(sql, [session]), takeOrders(sql, [session])]);
  expect(answers.map(([orders]) => orders!.recall).sort()).toEqual([0, 3]);
  expect(answers.map(([orders]) => orders!.cancels)).toEqual([cancels, cancels]);
  expect(await renew(session)).toMatchObject({ recall: 0 });
  await stage.complete(grants);
  await drainSession(sql, session, 'test');
  expect(await takeOrders(sql, [session])).toEqual([{ ...nothing, state: 'draining' }]);
});

it('finds cancels by their own index, also under 20 000 leases', async () => {
  const lane = await stage.lane('indexed');
  const session = await stage.session('indexed');
  const tasks = await stage.submit(lane, 20_000);
  await stage.claim(lane, session, 20_000);
  await cancelTasks(sql, tasks.slice(0, 1), 'enough');
  const one = openSql(db.url, { max: 1, pinPlans: true });
  try {
    const { TAKE_ORDERS } = await import('./recall.ts');
    const plan = await one.unsafe(`explain (analyze, buffers, format json) ${TAKE_ORDERS}`, [`{${session}}`]);
    const text = JSON.stringify(plan[0]!['QUERY PLAN']);
    expect(text).toContain('leases_cancelled');
    expect(text).not.toContain('leases_session');
  } finally {
    await one.end({ timeout: 1 });
  }
});
