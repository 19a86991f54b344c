import { afterAll, beforeAll, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { readRun } from '../runs/runs.ts';
import type { Grant } from '../tasks/claim.ts';
import type { Lane } from '../tasks/lanes.ts';
import { completeFunctions } from './complete-functions.ts';
import { append, entry, startedFunction } from './functions.fixture.ts';
import { readJournal } from './journal.ts';

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

async function going(parent?: { runId: string; nodeId: string }): Promise<{ runId: string; lease: Grant }> {
  const { runId } = await startedFunction(sql, stage, lane, parent && { parent });
  const [lease] = await stage.claim(lane, session, 1);
  return { runId, lease: lease! };
}
const output = new TextEncoder().encode('"done"');
const complete = (lease: Pick<Grant, 'taskId' | 'epoch' | 'sessionId'>, entries = [entry(1)]) => {
  const { taskId, epoch, sessionId } = lease;
  return completeFunctions(pools.hot, [{ taskId, epoch, sessionId, output, encoding: 1, ranUs: 10, entries }]);
};
const reread = async (runId: string) => {
  const { rows } = await readJournal(sql, runId, { after: 0, limit: 100, maxBytes: 1e6, outputs: true });
  return rows.map((r) => [r.number, r.position, r.output && new TextDecoder().decode(r.output)]);
};
const count = async (table: string, where: string) =>
  (await sql.unsafe(`select count(*)::integer as n from baton.${table} where ${where}`))[0]!.n;

it('ends lease, task and run with the last entries, at once and once', async () => {
  const { runId, lease } = await going();
  await append(sql, lease, [entry(1)]);
  const at = 1_700_000_000_123;
  const [ended] = await complete(lease, [entry(2, { endedAtMs: at })]);
  expect(ended).toMatchObject({ taskId: lease.taskId, taskIds: [], runIds: [] });
  expect(ended!.run).toEqual({ ...(await readRun(sql, 1, runId)), input: null });
  expect(ended!.run).toMatchObject({
    id: runId,
    state: 'succeeded',
    nodesTotal: 2,
    nodesSucceeded: 2,
    nodesEnded: 2,
    revision: 1,
  });
  expect(new TextDecoder().decode(ended!.run.output!)).toBe('"done"');
  expect(await reread(runId)).toEqual([
    [1, 1, '1'],
    [2, 2, '2'],
  ]);
  const { rows } = await readJournal(sql, runId, { after: 1, limit: 1, maxBytes: 1e6, outputs: false });
  expect(rows[0]!.endedAtMs).toBe(at);
  const task = `task_id = ${lease.taskId}`;
  expect(await count('leases', task)).toBe(0);
  expect(await count('advances', `run_id = ${runId}`)).toBe(0);
  expect(await count('attempts', `${task} and state = 'succeeded'`)).toBe(1);
  expect(await count('outcomes', `${task} and state = 'succeeded' and run_id = ${runId}`)).toBe(1);
  expect(await count('events', `${lease.taskId} = any(task_ids) and 5 = any(types)`)).toBe(1);
  expect(await count('events', `${runId} = any(run_ids) and 11 = any(types)`)).toBe(1);
  expect(await complete(lease, [entry(3)])).toEqual([]);
  expect((await reread(runId)).length).toBe(2);
});

it('takes nothing of a lease that is not held, and nothing where the run is over', async () => {
  const { runId, lease } = await going();
  expect(await complete({ ...lease, epoch: 2 })).toEqual([]);
  expect(await complete({ ...lease, sessionId: '1' })).toEqual([]);
  await sql.unsafe(`update baton.runs set state = 'cancelled' where id = $1`, [runId]);
  expect(await complete(lease)).toEqual([]);
  expect(await reread(runId)).toEqual([]);
  expect(await count('leases', `task_id = ${lease.taskId}`)).toBe(1);
});

it('of a task that drives no run takes nothing', async () => {
  await stage.submit(lane, 1);
  const [lease] = await stage.claim(lane, session, 1);
  expect(await complete(lease!)).toEqual([]);
  expect(await count('leases', `task_id = ${lease!.taskId}`)).toBe(1);
});

it('tells the parent, and what the run had made and did not wait for', async () => {
  const parent = await going();
  const { runId, lease } = await going({ runId: parent.runId, nodeId: 'child' });
  const made = stage.nextId();
  await append(sql, lease, [entry(1, { kind: 'task', refId: made }), entry(2, { kind: 'signal' })]);
  const [ended] = await complete(lease, [entry(3)]);
  expect(ended).toMatchObject({ taskIds: [made], runIds: [] });
  expect(ended!.run).toMatchObject({ nodesTotal: 3, nodesSucceeded: 1, parentRunId: parent.runId });
  expect(await count('advances', `run_id = ${parent.runId} and child_run_id = ${runId}`)).toBe(1);
});

it('many at once, and a step that was to be tried again is over', async () => {
  const all = await Promise.all([going(), going(), going()]);
  await append(sql, all[1]!.lease, [entry(1, { ended: false, output: null, encoding: null, dueInMs: 60_000 })]);
  const ended = await completeFunctions(
    pools.hot,
    all
      .map(({ lease: { taskId, epoch, sessionId } }) => ({ taskId, epoch, sessionId }))
      .sort((a, b) => (BigInt(a.taskId) < BigInt(b.taskId) ? -1 : 1))
      .map((lease) => ({ ...lease, output, encoding: 1, ranUs: 1, entries: [entry(1, { attempts: 2 })] })),
  );
  expect(ended.length).toBe(3);
  for (const { run } of ended) expect(run).toMatchObject({ nodesTotal: 1, nodesSucceeded: 1 });
  for (const { runId } of all) expect(await reread(runId)).toEqual([[1, 1, '1']]);
});
