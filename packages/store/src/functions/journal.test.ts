import { afterAll, beforeAll, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { insertSignal } from '../runs/run-signals.ts';
import type { Grant } from '../tasks/claim.ts';
import type { Lane } from '../tasks/lanes.ts';
import { readHeld, settleTasks } from '../tasks/settle.ts';
import { promoteDue } from '../tasks/waiting.ts';
import { endFunctions, readRetriedEntries, reopenFunction } from './function-runs.ts';
import { append, entry, startedFunction } from './functions.fixture.ts';
import { readJournal, readResolved, resolveJournal } from './journal.ts';
import { countWakes, readSleepers, suspendTasks, wakeDrivers } from './suspend.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;
let pools: Pools;
let lane: Lane;
let session: string;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
  pools = openPools(db.url);
  lane = await stage.lane('f');
  session = await stage.session('w');
});
afterAll(async () => {
  await pools.end();
  await db.drop();
});

/** A run whose driver is leased. */
async function going(): Promise<{ runId: string; lease: Grant }> {
  const { runId, taskId } = await startedFunction(sql, stage, lane);
  const [lease] = await stage.claim(lane, session, 1);
  expect(lease).toMatchObject({ taskId, runId, epoch: 1, attempt: 1 });
  return { runId, lease: lease! };
}

const reread = async (runId: string) => {
  const { rows } = await readJournal(sql, runId, { after: 0, limit: 100, maxBytes: 1e6, outputs: true });
  return rows.map((r) => [r.number, r.position, r.kind, r.output ? new TextDecoder().decode(r.output) : null]);
};
const resolve = async (lease: Grant, isLoad = false) => (await resolveJournal(sql, [lease], isLoad)).get(lease.taskId);
const signal = (runId: string, name: string, payload: string, key: string | null = null) =>
  insertSignal(sql, {
    id: stage.nextId(),
    namespaceId: 1,
    runId,
    name,
    encoding: 1,
    payload: new TextEncoder().encode(payload),
    key,
  });
const runOf = async (runId: string) => (await sql.unsafe('select * from baton.runs where id = $1', [runId]))[0]!;
const suspend = (lease: Grant, wakes: string | number, dueAtMs: number | null = null) => {
  const { taskId, epoch, sessionId } = lease;
  return suspendTasks(pools.hot, [{ taskId, epoch, sessionId, wakes: String(wakes), dueAtMs, ranUs: 10 }]);
};
const wake = async (runId: string) => {
  await countWakes(pools.lease, [runId]);
  return wakeDrivers(pools.lease, [runId], []);
};

it('takes entries in order, once each, whatever is repeated', async () => {
  const { runId, lease } = await going();
  expect(await append(sql, lease, [entry(1), entry(2)])).toMatchObject({
    runId,
    last: 0,
    added: [
      { number: 1, position: 1 },
      { number: 2, position: 2 },
    ],
  });
  expect(await append(sql, lease, [entry(2), entry(3)])).toMatchObject({ last: 2, added: [{ number: 3 }] });
  expect(await append(sql, lease, [entry(3, { output: Uint8Array.of(0x39) })])).toMatchObject({ added: [] });
  expect(await reread(runId)).toEqual([
    [1, 1, 'step', '1'],
    [2, 2, 'step', '2'],
    [3, 4, 'step', '3'],
  ]);
});

it('refuses an epoch, a session or a task that is not the holder, and writes nothing', async () => {
  const { runId, lease } = await going();
  const other = await stage.session('other');
  expect(await append(sql, { ...lease, epoch: 2 }, [entry(1)])).toBeUndefined();
  expect(await append(sql, { ...lease, sessionId: other }, [entry(1)])).toBeUndefined();
  const { taskId, epoch, sessionId } = lease;
  await settleTasks(sql, [
    {
      taskId,
      epoch,
      sessionId,
      attempt: 'lost',
      next: 'ready',
      delayMs: null,
      budget: 'crash',
      failure: null,
      ranUs: 0,
    },
  ]);
  const [next] = await stage.claim(lane, session, 1);
  expect(await append(sql, lease, [entry(1)])).toBeUndefined();
  expect(await resolve(lease)).toBeUndefined();
  expect(await suspend(lease, 0)).toEqual([]);
  expect(await reread(runId)).toEqual([]);
  // Progress forgets that the worker before was lost.
  await append(sql, next!, [entry(1)]);
  expect((await readHeld(sql, [next!])).get(taskId)).toMatchObject({ crashes: 0, forgiven: 1 });
});

it('a step that is to be tried again is replaced by its next try, and by nothing older', async () => {
  const { runId, lease } = await going();
  const failure = { type: 'EVALUATION_ERROR' as const, message: 'no' };
  await append(sql, lease, [entry(1, { ended: false, output: null, failure, dueInMs: 60_000 })]);
  expect(await resolve(lease)).toMatchObject({ open: 0 });
  await append(sql, lease, [entry(1, { attempts: 2 })]);
  await append(sql, lease, [entry(1, { ended: false, output: null, failure, dueInMs: 60_000 })]);
  expect(await reread(runId)).toEqual([[1, 1, 'step', '1']]);
});

it('two writers of one journal at the same moment never give out a place twice', async () => {
  const { runId, lease } = await going();
  const writers = Array.from({ length: 6 }, (_, i) => append(pools.api, lease, [entry(i + 1)]).catch((e) => e.code));
  const answers = await Promise.all(writers);
  for (const answer of answers) if (typeof answer === 'string') expect(answer).toBe('23505');
  for (let i = 1; i <= 6; i++) await append(sql, lease, [entry(i)]);
  const positions = (await reread(runId)).map(([, position]) => position);
  expect(new Set(positions).size).toBe(6);
});

it('resolves signals by name, first come first served, and times that are over', async () => {
  const { runId, lease } = await going();
  await signal(runId, 'a', '"early"');
  await append(sql, lease, [
    entry(1, { kind: 'signal', name: 'a' }),
    entry(2, { kind: 'signal', name: 'a' }),
    entry(3, { kind: 'signal', name: 'b', dueInMs: 0 }),
    entry(4, { kind: 'sleep', name: 'sleep', dueInMs: 3_600_000 }),
  ]);
  expect(await resolve(lease)).toMatchObject({ open: 2 });
  await signal(runId, 'b', '"late"');
  await signal(runId, 'a', '"second"');
  expect(await resolve(lease)).toMatchObject({ open: 1 });
  expect(await resolve(lease)).toMatchObject({ open: 1 });
  const rows = (await readResolved(sql, [{ runId, seenPosition: 0 }], 1e6)).get(runId)!.rows;
  expect(rows.map((r) => [r.number, r.position, r.output && new TextDecoder().decode(r.output)])).toEqual([
    [1, 1, '"early"'],
    [3, 2, null],
    [2, 3, '"second"'],
  ]);
  expect((await readResolved(sql, [{ runId, seenPosition: 0 }], 1)).get(runId)).toMatchObject({
    rows: [{ number: 1 }, { number: 3 }, { number: 2 }].slice(0, 1),
    more: true,
  });
});

it('a signal with a key is kept once; none is kept for a run that has ended, or that is not there', async () => {
  const { runId, lease } = await going();
  expect(await signal(runId, 'a', '1', 'k')).toMatchObject({ stored: true });
  expect(await signal(runId, 'a', '1', 'k')).toMatchObject({ stored: false, state: 'running' });
  await stage.complete([lease]);
  expect(await endFunctions(sql, [runId], [])).toMatchObject([{ runId, state: 'succeeded' }]);
  expect(await signal(runId, 'a', '2')).toMatchObject({ stored: false, state: 'succeeded' });
  expect(await signal('123', 'a', '2')).toBeNull();
});

it('tasks and runs that ended are resolved as they did, in the order of their ends', async () => {
  const { runId, lease } = await going();
  const child = await startedFunction(sql, stage, await stage.lane('child'), { parent: { runId, nodeId: 'c' } });
  const other = await stage.lane('task');
  const [good, bad] = await stage.submit(other, 2, { extra: { runId } });
  await append(sql, lease, [
    entry(1, { kind: 'child', name: 'c', refId: child.runId }),
    entry(2, { kind: 'task', name: 'bad', refId: bad }),
    entry(3, { kind: 'task', name: 'good', refId: good }),
  ]);
  expect(await resolve(lease)).toMatchObject({ open: 3 });
  const [first, second] = await stage.claim(other, session, 2);
  const { taskId, epoch, sessionId } = second!;
  const failure = { type: 'TASK_TIMEOUT' as const, message: 'late' };
  await settleTasks(sql, [
    {
      taskId,
      epoch,
      sessionId,
      attempt: 'failed',
      next: 'failed',
      delayMs: null,
      budget: 'app',
      failure,
      ranUs: 0,
    } as never,
  ]);
  await stage.complete([first!]);
  const [driver] = await stage.claim(await stage.lane('child'), session, 1);
  await stage.complete([driver!]);
  await endFunctions(sql, [child.runId], []);
  expect(await resolve(lease)).toMatchObject({ open: 0 });
  const rows = (await readResolved(sql, [{ runId, seenPosition: 0 }], 1e6)).get(runId)!.rows;
  expect(rows.map((r) => [r.number, r.failure?.message ?? null])).toEqual([
    [2, 'late'],
    [3, null],
    [1, null],
  ]);
  const [told] = await sql.unsafe(
    'select child_run_id from baton.advances where run_id = $1 and child_run_id is not null',
    [runId],
  );
  expect(told!.child_run_id).toBe(child.runId);
});

it('a function that waits holds no lease; a wake that it did not know of keeps it from sleeping', async () => {
  const { runId, lease } = await going();
  await append(sql, lease, [entry(1, { kind: 'signal', name: 'go' })]);
  expect(await suspend(lease, 0)).toMatchObject([{ next: 'waiting', runId }]);
  expect(await runOf(runId)).toMatchObject({ state: 'waiting', waiting_for: '{"signal go"}' });
  expect(await stage.places([lease.taskId])).toEqual(['waiting']);
  expect((await wake(runId)).laneIds).toEqual([lane.id]);
  const [again] = await stage.claim(lane, session, 1);
  expect(again).toMatchObject({ taskId: lease.taskId, epoch: 2, attempt: 1 });
  expect(await resolve(again!, true)).toMatchObject({ wakes: '1' });
  expect(await runOf(runId)).toMatchObject({ state: 'running', waiting_for: null });
  await wake(runId);
  expect(await suspend(again!, 1)).toMatchObject([{ next: 'ready' }]);
  await stage.claim(lane, session, 1);
});

it('a sleeper whose advance was lost is found, and nobody else', async () => {
  const { runId, lease } = await going();
  await append(sql, lease, [entry(1, { kind: 'signal', name: 'go' })]);
  await suspend(lease, 0);
  expect(await readSleepers(sql, 10)).not.toContain(runId);
  await signal(runId, 'go', '1');
  expect(await readSleepers(sql, 10)).not.toContain(runId);
  await sql.unsafe('delete from baton.advances where run_id = $1', [runId]);
  expect(await readSleepers(sql, 10)).toContain(runId);
  await wake(runId);
  expect(await readSleepers(sql, 10)).not.toContain(runId);
  await stage.claim(lane, session, 1);
});

it('a due time wakes by the sweep of what is due', async () => {
  const { lease } = await going();
  expect(await suspend(lease, 0, Date.now() + 50)).toMatchObject([{ next: 'waiting' }]);
  await expect.poll(async () => (await promoteDue(sql, 10)).laneIds.has(lane.id), { timeout: 5_000 }).toBe(true);
  const [again] = await stage.claim(lane, session, 1);
  expect(await suspend(again!, 0, Date.now() - 1)).toMatchObject([{ next: 'ready' }]);
  await stage.claim(lane, session, 1);
});

it('a cancel that was asked for ends the task instead of letting it wait', async () => {
  const { lease } = await going();
  await sql.unsafe(`update baton.leases set cancel_reason = 'enough' where task_id = $1`, [lease.taskId]);
  expect(await suspend(lease, 0)).toMatchObject([{ next: 'cancelled' }]);
  expect(await stage.places([lease.taskId])).toEqual(['outcomes']);
});

it('no wake-up is lost, however wakes and sleeps meet', async () => {
  for (let round = 0; round < 40; round++) {
    const { runId, lease } = await going();
    await append(sql, lease, [entry(1, { kind: 'signal', name: 'go' })]);
    const seen = (await resolve(lease))!;
    // A signal comes between what the worker knows and its word that it sleeps: before, during or after.
    const sleeping = suspend(lease, seen.wakes);
    const waking = (async () => {
      if (round % 2 === 0) await new Promise((done) => setTimeout(done, round % 5));
      await signal(runId, 'go', '1');
      await wake(runId);
    })();
    await Promise.all([sleeping, waking]);
    expect(await stage.places([lease.taskId])).toEqual(['ready']);
    const [again] = await stage.claim(lane, session, 1);
    expect(again?.taskId).toBe(lease.taskId);
    expect(await resolve(again!, true)).toMatchObject({ open: 0 });
  }
});

it('a retry forgets the entries that it is told, frees their signals, and begins with epoch 2', async () => {
  const { runId, lease } = await going();
  await signal(runId, 'a', '1');
  await append(sql, lease, [entry(1), entry(2, { kind: 'signal', name: 'a', afterPosition: 1 })]);
  await resolve(lease);
  const { taskId, epoch, sessionId } = lease;
  const failure = { type: 'EVALUATION_ERROR' as const, message: 'no' };
  await settleTasks(sql, [
    {
      taskId,
      epoch,
      sessionId,
      attempt: 'failed',
      next: 'failed',
      delayMs: null,
      budget: 'app',
      failure,
      ranUs: 0,
    } as never,
  ]);
  await endFunctions(sql, [runId], []);
  const run = await runOf(runId);
  expect(run).toMatchObject({ state: 'failed', failure_message: 'no', nodes_total: 2, nodes_succeeded: 2 });
  expect(await readRetriedEntries(sql, runId)).toMatchObject([
    { number: 1 },
    { number: 2, position: 2, afterPosition: 1 },
  ]);
  const driver = {
    taskId: stage.nextId(),
    routeId: lane.routeId,
    laneId: lane.id,
    priority: 0,
    maxAttempts: 4,
    startToCloseMs: 1,
  };
  expect(await reopenFunction(sql, runId, -1, [2], driver)).toBe(false);
  expect(await reopenFunction(sql, runId, run.revision as number, [2], driver)).toBe(true);
  const [again] = await stage.claim(lane, session, 1);
  expect(again).toMatchObject({ taskId: driver.taskId, epoch: 2 });
  expect(await append(sql, lease, [entry(9)])).toBeUndefined();
  await append(sql, again!, [entry(2, { kind: 'signal', name: 'a' })]);
  expect(await resolve(again!)).toMatchObject({ open: 0 });
  expect(await reread(runId)).toEqual([
    [1, 1, 'step', '1'],
    [2, 2, 'signal', '1'],
  ]);
});

it('pages of a journal are bounded by entries and bytes', async () => {
  const { runId, lease } = await going();
  await append(
    sql,
    lease,
    Array.from({ length: 10 }, (_, i) => entry(i + 1, { output: new Uint8Array(100) })),
  );
  const page = (after: number, limit: number, maxBytes: number) =>
    readJournal(sql, runId, { after, limit, maxBytes, outputs: true }).then((p) => [
      p.rows.map((r) => r.number),
      p.more,
    ]);
  expect(await page(0, 4, 1e6)).toEqual([[1, 2, 3, 4], true]);
  expect(await page(4, 100, 150)).toEqual([[5, 6], true]);
  expect(await page(8, 2, 1e6)).toEqual([[9, 10], false]);
  expect(await page(10, 2, 1e6)).toEqual([[], false]);
});
