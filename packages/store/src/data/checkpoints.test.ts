import { createHash } from 'node:crypto';
import { EVENT } from '@baton/domain';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { type Grant, loadSpecs } from '../tasks/claim.ts';
import { readHeld, settleTasks } from '../tasks/settle.ts';
import { beginUpload, commitUpload } from './blobs.ts';
import {
  checkpointStatistics,
  deleteCheckpoint,
  findTask,
  forgetSaves,
  listCheckpoints,
  loadCheckpoint,
  type NewCheckpoint,
  pruneCheckpoints,
  readCheckpoint,
  saveCheckpoint,
} from './checkpoints.ts';

let db: MigratedDatabase;
let on: Scene;
let lease: Grant;
let n = 0;
beforeAll(async () => {
  db = await migratedDatabase({ max: 10 });
  on = scene(db.sql);
});
afterAll(() => db.drop());
beforeEach(async () => {
  const lane = await on.lane(`checkpoints-${++n}`);
  await on.submit(lane, 1);
  [lease] = (await on.claim(lane, await on.session(`checkpoints-${n}`), 1)) as [Grant];
});

const bytes = (text: string) => new TextEncoder().encode(text);
let saves = 0;
function checkpoint(change: Partial<NewCheckpoint> = {}): NewCheckpoint {
  const data = change.data === undefined ? bytes(`{"step":${saves}}`) : change.data;
  return {
    taskId: lease.taskId,
    epoch: lease.epoch,
    sessionId: lease.sessionId,
    saveId: `save-${++saves}-0000`,
    sha256: createHash('sha256')
      .update(data ?? '')
      .digest('hex'),
    data,
    encoding: 1,
    score: null,
    metadata: null,
    ...change,
  };
}
const save = (change?: Partial<NewCheckpoint>) => saveCheckpoint(db.sql, checkpoint(change));
const numbers = async (taskId = lease.taskId) =>
  (await listCheckpoints(db.sql, taskId, null, 100)).map((each) => Number(each.number));
const events = async () =>
  (
    await db.sql.unsafe(
      `select count(*)::int as n from baton.events, unnest(types, task_ids) e(type, task_id) where e.type = $1 and e.task_id = $2`,
      [EVENT.checkpointSaved, lease.taskId],
    )
  )[0]!.n as number;
const rows = async () =>
  (
    await db.sql.unsafe(
      `select (select count(*) from baton.checkpoints where task_id = $1)::int as checkpoints,
              (select count(*) from baton.checkpoint_saves where task_id = $1)::int as saves`,
      [lease.taskId],
    )
  )[0]!;
/** Ends the lease as lost, and grants the task to another session. */
async function leaseAnew(): Promise<Grant> {
  await settleTasks(db.sql, [
    {
      taskId: lease.taskId,
      epoch: lease.epoch,
      sessionId: lease.sessionId,
      attempt: 'lost',
      next: 'ready',
      delayMs: null,
      budget: 'crash',
      failure: null,
      ranUs: 0,
    },
  ]);
  const lane = await on.lane(`checkpoints-${n}`);
  const [next] = await on.claim(lane, await on.session(`other-${n}`), 1);
  return next!;
}

describe('a save', () => {
  test('is numbered 1, 2, 3, kept whole, with an event each', async () => {
    const metadata = { loss: '0.5', 'ключ "\\': 'ü\n' };
    expect(await save({ score: -1.5, metadata })).toEqual({ held: true, number: '1', repeated: false });
    expect(await save({ encoding: 2, data: Uint8Array.of(0, 255) })).toMatchObject({ number: '2' });
    expect(await save({ data: new Uint8Array(), encoding: 2 })).toMatchObject({ number: '3' });
    expect(await events()).toBe(3);
    expect(await readCheckpoint(db.sql, lease.taskId, { number: '1' })).toMatchObject({
      taskId: lease.taskId,
      attempt: 1,
      epoch: 1,
      worker: `checkpoints-${n}`,
      score: -1.5,
      metadata,
      encoding: 1,
      inBlob: false,
    });
    const second = await readCheckpoint(db.sql, lease.taskId, { number: '2' });
    expect([...second!.data!]).toEqual([0, 255]);
    expect(second).toMatchObject({ sizeBytes: 2, score: null, metadata: null, encoding: 2 });
    expect(await readCheckpoint(db.sql, lease.taskId, 'newest')).toMatchObject({ number: '3', sizeBytes: 0 });
  });

  test('that is repeated has the same number and writes nothing, also when it has been pruned since', async () => {
    const first = checkpoint();
    await saveCheckpoint(db.sql, first);
    await save();
    expect(await saveCheckpoint(db.sql, first)).toEqual({ held: true, number: '1', repeated: true });
    for (let i = 0; i < 6; i++) await save();
    await pruneCheckpoints(db.sql, lease.taskId, 2, true);
    expect(await saveCheckpoint(db.sql, first)).toEqual({ held: true, number: '1', repeated: true });
    expect(await numbers()).toEqual([8, 7]);
    expect(await events()).toBe(8);
  });

  test('that is new forgets lost workers, one that is repeated does not', async () => {
    const crashes = async () =>
      (await db.sql.unsafe('select crashes from baton.leases where task_id = $1', [lease.taskId]))[0]!.crashes;
    lease = await leaseAnew();
    expect(await crashes()).toBe(1);
    const first = checkpoint();
    await saveCheckpoint(db.sql, first);
    expect(await crashes()).toBe(0);
    await db.sql.unsafe('update baton.leases set crashes = 3 where task_id = $1', [lease.taskId]);
    expect(await saveCheckpoint(db.sql, first)).toMatchObject({ repeated: true });
    expect(await saveCheckpoint(db.sql, checkpoint({ epoch: 1 }))).toMatchObject({ held: false });
    expect(await crashes()).toBe(3);
    await save();
    expect(await crashes()).toBe(0);
    // And these attempts stay what they were: none of the failures that the task may have.
    const held = (await readHeld(db.sql, [lease])).get(lease.taskId)!;
    expect(held).toMatchObject({ crashes: 0, forgiven: 4, maxAttempts: 4 });
  });

  test.each([
    ['another epoch', () => ({ epoch: 2 })],
    ['another session', () => ({ sessionId: on.nextId() })],
    ['another task', () => ({ taskId: on.nextId() })],
  ])('of %s is not held and leaves nothing', async (_, change) => {
    expect(await save(change())).toEqual({ held: false, number: null, repeated: false });
    expect(await rows()).toEqual({ checkpoints: 0, saves: 0 });
    expect(await events()).toBe(0);
    const [counter] = await db.sql.unsafe('select 1 from baton.checkpoint_counters where task_id = $1', [lease.taskId]);
    expect(counter).toBeUndefined();
  });

  test('of a lease that was taken away is not held, nor one that is repeated; the next lease goes on counting', async () => {
    const first = checkpoint();
    await saveCheckpoint(db.sql, first);
    const next = await leaseAnew();
    expect(await save()).toMatchObject({ held: false, number: null });
    expect(await saveCheckpoint(db.sql, first)).toMatchObject({ held: false, number: null });
    const { epoch, sessionId } = next;
    expect((await loadSpecs(db.sql, [lease.taskId])).get(lease.taskId)).toMatchObject({ checkpoint: '1' });
    expect(await loadCheckpoint(db.sql, next, '0')).toMatchObject({
      held: true,
      checkpoint: { number: '1', epoch: 1 },
    });
    expect(await save({ epoch, sessionId })).toEqual({ held: true, number: '2', repeated: false });
    // The save of the epoch before is forgotten: the fence refuses its repetition.
    expect(await rows()).toEqual({ checkpoints: 2, saves: 1 });
  });

  test('many at once: no number twice, none left out; the same one twice counts once', async () => {
    const all = Array.from({ length: 20 }, () => checkpoint());
    const answers = await Promise.all([...all, ...all].map((each) => saveCheckpoint(db.sql, each)));
    const given = answers.map((answer) => Number(answer.number));
    expect(given.slice(0, 20)).toEqual(given.slice(20));
    expect(given.slice(0, 20).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(await rows()).toEqual({ checkpoints: 20, saves: 20 });
    expect(await events()).toBe(20);
  });

  test('races the end of its lease: it is before it, or refused without a trace', async () => {
    for (let round = 0; round < 15; round++) {
      const lane = await on.lane(`race-${round}`);
      await on.submit(lane, 1);
      [lease] = (await on.claim(lane, await on.session(`race-${round}`), 1)) as [Grant];
      const [answer] = await Promise.all([save(), on.complete([lease])]);
      const { checkpoints } = await rows();
      expect(checkpoints).toBe(answer.held ? 1 : 0);
      expect(await events()).toBe(answer.held ? 1 : 0);
    }
  });

  test('by a blob needs the blob, in the namespace of the task, and marks it as used', async () => {
    const sha256 = 'ab'.repeat(32);
    const named = { data: null, sha256 };
    expect(await save(named)).toEqual({ held: true, number: null, repeated: false });
    await beginUpload(db.sql, { id: '77', namespaceId: 2, sizeBytes: 0, place: 'postgres', ttlMs: 60_000 });
    await commitUpload(db.sql, { id: '77', namespaceId: 2, sha256, receivedBytes: 0 });
    expect(await save(named)).toMatchObject({ number: null });
    await db.sql.unsafe(
      `insert into baton.blobs (namespace_id, sha256, size_bytes, content_id, place, used_at) values (1, decode($1, 'hex'), 12345, 78, 'postgres', '2020-01-01')`,
      [sha256],
    );
    expect(await rows()).toEqual({ checkpoints: 0, saves: 0 });
    expect(await save(named)).toMatchObject({ number: '1' });
    expect(await readCheckpoint(db.sql, lease.taskId, 'newest')).toMatchObject({
      inBlob: true,
      sizeBytes: 12345,
      sha256,
      data: null,
    });
    const [blob] = await db.sql.unsafe(
      `select used_at > '2021-01-01' as marked from baton.blobs where content_id = 78`,
    );
    expect(blob!.marked).toBe(true);
  });

  test('is a sign of progress of its epoch, and of no other', async () => {
    const put = (epoch: number) =>
      db.sql.unsafe(
        `insert into baton.progress (task_id, session_id, sign_at, epoch) values ($1, $2, '2020-01-01', $3)
         on conflict (task_id) do update set sign_at = excluded.sign_at, epoch = excluded.epoch`,
        [lease.taskId, lease.sessionId, epoch],
      );
    const isRecent = async () =>
      (
        await db.sql.unsafe(`select sign_at > '2021-01-01' as is from baton.progress where task_id = $1`, [
          lease.taskId,
        ])
      )[0]!.is;
    await put(lease.epoch);
    await save();
    expect(await isRecent()).toBe(true);
    await put(lease.epoch - 1);
    await save();
    expect(await isRecent()).toBe(false);
  });
});

describe('a load', () => {
  test('gives the newest or one by number to the holder, nothing where there is none', async () => {
    expect(await loadCheckpoint(db.sql, lease, '0')).toEqual({ held: true, checkpoint: null });
    await save();
    await save();
    expect(await loadCheckpoint(db.sql, lease, '0')).toMatchObject({
      checkpoint: { number: '2', worker: `checkpoints-${n}` },
    });
    expect(await loadCheckpoint(db.sql, lease, '1')).toMatchObject({ checkpoint: { number: '1' } });
    expect(await loadCheckpoint(db.sql, lease, '3')).toEqual({ held: true, checkpoint: null });
    expect(await loadCheckpoint(db.sql, { ...lease, epoch: 9 }, '0')).toEqual({ held: false, checkpoint: null });
    expect(await loadCheckpoint(db.sql, { ...lease, sessionId: on.nextId() }, '1')).toEqual({
      held: false,
      checkpoint: null,
    });
  });
});

describe('keeping', () => {
  test('the last few and the best: the newer of two that are as good', async () => {
    for (const score of [1, 3, 3, null, 2, null, 1]) await save({ score });
    expect(await readCheckpoint(db.sql, lease.taskId, 'best')).toMatchObject({ number: '3', score: 3 });
    expect(await pruneCheckpoints(db.sql, lease.taskId, 3, true)).toMatchObject({ deleted: 3 });
    expect(await numbers()).toEqual([7, 6, 5, 3]);
    expect((await pruneCheckpoints(db.sql, lease.taskId, 1, false)).deleted).toBe(3);
    expect(await numbers()).toEqual([7]);
    expect(await pruneCheckpoints(db.sql, lease.taskId, 0, false)).toEqual({ deleted: 0, freedBytes: 0 });
    expect(await numbers()).toEqual([7]);
  });

  test('the newest of a living task is not deleted, of an ended one it is; numbers are not given again', async () => {
    await save();
    await save();
    expect(await deleteCheckpoint(db.sql, lease.taskId, '2')).toBe(false);
    expect(await deleteCheckpoint(db.sql, lease.taskId, '1')).toBe(true);
    expect(await deleteCheckpoint(db.sql, lease.taskId, '1')).toBe(false);
    expect(await save()).toMatchObject({ number: '3' });
    await on.complete([lease]);
    expect(await deleteCheckpoint(db.sql, lease.taskId, '3')).toBe(true);
    expect(await numbers()).toEqual([2]);
  });

  test('pages go down from a number', async () => {
    for (let i = 0; i < 5; i++) await save();
    const page = async (before: string | null) =>
      (await listCheckpoints(db.sql, lease.taskId, before, 2)).map((each) => each.number);
    expect(await page(null)).toEqual(['5', '4']);
    expect(await page('4')).toEqual(['3', '2']);
    expect(await page('2')).toEqual(['1']);
  });

  test('statistics of a task, and of a namespace', async () => {
    expect(await checkpointStatistics(db.sql, 1, lease.taskId)).toEqual({
      count: 0,
      tasks: 0,
      sizeBytes: 0,
      inBlobs: 0,
      oldest: null,
      newest: null,
      bestScore: null,
    });
    await save({ data: bytes('123'), score: 2 });
    await save({ data: bytes('12345'), score: -7 });
    const of = await checkpointStatistics(db.sql, 1, lease.taskId);
    expect(of).toMatchObject({ count: 2, tasks: 1, sizeBytes: 8, inBlobs: 0, bestScore: 2 });
    expect(of.newest!.getTime()).toBeGreaterThanOrEqual(of.oldest!.getTime());
    const all = await checkpointStatistics(db.sql, 1, null);
    expect(all.tasks).toBeGreaterThan(1);
    expect(await checkpointStatistics(db.sql, 2, null)).toMatchObject({ count: 0 });
  });

  test('saves are forgotten when their lease is over', async () => {
    await save();
    await forgetSaves(db.sql);
    expect((await rows()).saves).toBe(1);
    await on.complete([lease]);
    await forgetSaves(db.sql);
    expect(await rows()).toEqual({ checkpoints: 1, saves: 0 });
  });
});

test('a task is found in its own namespace', async () => {
  expect(await findTask(db.sql, 1, lease.taskId)).toEqual({ ended: false });
  expect(await findTask(db.sql, 2, lease.taskId)).toBeNull();
  await on.complete([lease]);
  expect(await findTask(db.sql, 1, lease.taskId)).toEqual({ ended: true });
});
