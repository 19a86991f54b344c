import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { leaseNode, releaseNode } from '../workers/masters.ts';
import { closeSession, drainSession } from '../workers/sessions.ts';
import { cancelTasks } from './cancel.ts';
import { lookAround } from './look.ts';
import { setQueuePaused, setQueuePlanning } from './queues.ts';
import { recallFor } from './recall.ts';
import { settleTasks } from './settle.ts';

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
  await sql.unsafe('truncate baton.leases, baton.ready, baton.waiting, baton.start_deadlines, baton.attempts');
  await sql.unsafe(`update baton.sessions set state = 'closed'`);
});

const look = (laneIds: readonly number[] = [], after = 1_000_000) => lookAround(sql, laneIds, after, 60_000);

it('sees nothing where nothing is to be done: not for workers that idle, and not for those that are gone', async () => {
  await stage.session('idle');
  const gone = await stage.session('gone');
  await drainSession(sql, gone, 'enough');
  await closeSession(sql, gone, 'left');
  const lane = await stage.lane('empty');
  expect(await look([lane.id])).toMatchObject({
    readyLanes: [],
    dueMs: null,
    startMs: null,
    leases: false,
    progress: false,
    devices: false,
    advances: false,
    breakers: false,
    ordered: [],
  });
});

it('of the lanes asked for names those with something ready', async () => {
  const [one, other, third] = [await stage.lane('one'), await stage.lane('other'), await stage.lane('third')];
  await stage.submit(one, 2);
  await stage.submit(third, 1);
  expect((await look([one.id, other.id])).readyLanes).toEqual([one.id]);
});

it('tells when the next task is due, and when the next is to have been started', async () => {
  const lane = await stage.lane('later');
  await stage.submit(lane, 1, { dueAtMs: Date.now() + 3_600_000 });
  await stage.submit(lane, 1, { dueAtMs: Date.now() + 60_000 });
  await stage.submit(lane, 1, { extra: { scheduleToStartMs: 30_000 } });
  const { dueMs, startMs } = await look();
  expect(dueMs).toBeGreaterThan(50_000);
  expect(dueMs).toBeLessThanOrEqual(60_000);
  expect(startMs).toBeGreaterThan(20_000);
  expect(startMs).toBeLessThanOrEqual(30_000);
});

it('names the sessions to which there is something to say', async () => {
  const lane = await stage.lane('orders');
  const [idle, drained, stopped, asked] = [
    await stage.session('idle'),
    await stage.session('drained'),
    await stage.session('stopped'),
    await stage.session('asked'),
  ];
  await stage.submit(lane, 3);
  await stage.claim(lane, asked, 2);
  await sql.unsafe(`update baton.leases set granted_at = granted_at - interval '2 s'`);
  const held = await stage.claim(lane, stopped, 1);
  expect(await look()).toMatchObject({ leases: true, ordered: [] });
  await drainSession(sql, drained, 'enough');
  await cancelTasks(sql, [held[0]!.taskId], 'enough');
  await recallFor(sql, [lane.id], [idle]);
  expect((await look()).ordered.sort()).toEqual([drained, stopped, asked].sort());
});

it('tells of machine-made failures of late', async () => {
  const lane = await stage.lane('failing');
  const session = await stage.session('failing');
  const [taskId] = await stage.submit(lane, 1);
  const [lease] = await stage.claim(lane, session, 1);
  const settlement = {
    taskId: taskId!,
    epoch: lease!.epoch,
    sessionId: session,
    ranUs: 0,
    delayMs: null,
    budget: 'none',
  } as const;
  const failure = { type: 'WORKER_CRASH', message: 'gone' } as const;
  await settleTasks(sql, [{ ...settlement, attempt: 'failed', next: 'failed', failure }]);
  expect(await look()).toMatchObject({ breakers: true });
  expect(await lookAround(sql, [], 0, 0)).toMatchObject({ breakers: false });
});

it('reads the lanes that are new, recently made or paused, and the queues that are planned otherwise', async () => {
  const [old, paused] = [await stage.lane('old'), await stage.lane('paused')];
  await sql.unsafe(`update baton.lanes set created_at = created_at - interval '1 hour'`);
  await setQueuePaused(sql, 1, 'paused', true);
  await setQueuePlanning(sql, 1, 'old', { strategy: 'fifo' });
  expect(await look()).toMatchObject({
    lanes: [{ ...paused, paused: true }],
    plannings: [{ namespaceId: 1, name: 'old', strategy: 'fifo', placement: null }],
  });
  expect((await look([], old.id - 1)).lanes).toContainEqual(old);
});

it('counts the masters that live', async () => {
  const { masters } = await look();
  const lease = await leaseNode(sql, { instance: 'a', address: 'here', ttlMs: 60_000, idFloor: '0' });
  expect((await look()).masters).toBe(masters + 1);
  await releaseNode(sql, { node: lease!.node, instance: 'a', idFloor: '0' });
  expect((await look()).masters).toBe(masters);
});
