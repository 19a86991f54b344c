import { afterAll, beforeAll, expect, it } from 'vitest';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { storeWorkflow } from '../runs/workflows.ts';
import type { Lane } from '../tasks/lanes.ts';
import { type NewFunctionRun, startFunctionRuns } from './function-runs.ts';

let db: MigratedDatabase;
let stage: Scene;
let lane: Lane;
beforeAll(async () => {
  db = await migratedDatabase();
  stage = scene(db.sql);
  lane = await stage.lane('f');
});
afterAll(() => db.drop());

const store = (name: string, hash: string) =>
  storeWorkflow(db.sql, { namespaceId: 1, name, hash, description: '', definition: '{}', storedForm: '{}' });
const run = (workflowName: string, workflowVersion: number, key: string | null = null): NewFunctionRun => ({
  id: stage.nextId(),
  namespaceId: 1,
  workflowName,
  workflowVersion,
  release: '',
  mustBeNewest: true,
  input: null,
  encoding: 1,
  labels: null,
  idempotency: key === null ? null : { key, bodyHash: new Uint8Array([1]), ttlMs: 60_000 },
  parent: null,
  driver: {
    taskId: stage.nextId(),
    routeId: lane.routeId,
    laneId: lane.id,
    priority: 0,
    maxAttempts: 4,
    startToCloseMs: 60_000,
  },
});
const countOf = async (table: string, where: string) =>
  (await db.sql.unsafe(`select count(*)::integer as n from baton.${table} where ${where}`))[0]!.n as number;

it('stores nothing of a run whose workflow has a newer version, and the others beside it', async () => {
  await store('old', '01');
  await store('new', '02');
  await store('old', '03');
  const outdated = run('old', 1, 'k');
  const fits = [run('old', 2), run('new', 1, 'k')];
  const answer = await startFunctionRuns(db.sql, [outdated, ...fits]);
  expect(answer.outdated).toEqual(new Set([outdated.id]));
  expect(answer.stored).toEqual(new Set(fits.map(({ id }) => id)));
  expect(await countOf('idempotency', `id = ${outdated.id}`)).toBe(0);
  expect(await countOf('tasks', `id = ${outdated.driver.taskId}`)).toBe(0);
  expect(await countOf('ready', `lane_id = ${lane.id}`)).toBe(2);
  // Who asks for a version gets it.
  const asked = { ...run('old', 1), mustBeNewest: false };
  expect((await startFunctionRuns(db.sql, [asked])).stored).toEqual(new Set([asked.id]));
});

it('does not call a run outdated that an earlier try stored', async () => {
  await store('repeated', '01');
  const first = run('repeated', 1);
  await startFunctionRuns(db.sql, [first]);
  await store('repeated', '02');
  const again = await startFunctionRuns(db.sql, [first]);
  expect([again.stored.size, again.outdated.size]).toEqual([0, 0]);
});
