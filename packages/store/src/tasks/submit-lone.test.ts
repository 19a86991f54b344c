import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import type { Lane } from './lanes.ts';
import { submitHanding } from './submit.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
});
afterAll(() => db.drop());

const set = (table: string, columns: string, id: string | number) =>
  sql.unsafe(`update baton.${table} set ${columns} where id = $1`, [id]);

it.each<[string, (lane: Lane, session: string) => Promise<unknown>]>([
  ['whose breaker is open', (_, session) => set('sessions', 'held_back = true', session)],
  ['that drains', (_, session) => set('sessions', "state = 'draining'", session)],
  ['whose time is over', (_, session) => set('sessions', "expires_at = now() - interval '1 s'", session)],
  ['of a lane that is paused', (lane) => set('lanes', 'paused = true', lane.id)],
  ['of a lane where others are ready', (lane) => stage.submit(lane, 1, {})],
])('a lone task is not handed to a session %s: it is ready', async (name, change) => {
  const lane = await stage.lane(`not ${name}`);
  const [open, session] = [await stage.session(`open ${name}`), await stage.session(name)];
  const before = stage.task(lane);
  expect((await submitHanding(sql, [before], [open])).handed).toEqual(new Map([[before.id, open]]));
  await change(lane, session);
  const task = stage.task(lane);
  const { stored, handed } = await submitHanding(sql, [task], [session]);
  expect([stored, handed]).toEqual([new Set([task.id]), new Map()]);
  expect(await stage.places([before.id, task.id])).toEqual(['leases', 'ready']);
  const [event] = await sql.unsafe('select types, worker_ids from baton.events where task_ids = $1', [`{${task.id}}`]);
  expect(event).toEqual({ types: '{1}', worker_ids: '{0}' });
});

it('a lone task that is submitted again, to whomever, is neither stored nor leased again', async () => {
  const lane = await stage.lane('again');
  const [first, second] = [await stage.session('first'), await stage.session('second')];
  const task = stage.task(lane);
  await submitHanding(sql, [task], [first]);
  const { stored, handed } = await submitHanding(sql, [task], [second]);
  expect([stored.size, handed.size]).toEqual([0, 0]);
  const leases = await sql.unsafe('select session_id, epoch, attempt from baton.leases where task_id = $1', [task.id]);
  expect(leases.map((lease) => ({ ...lease }))).toEqual([{ session_id: first, epoch: 1, attempt: 1 }]);
});
