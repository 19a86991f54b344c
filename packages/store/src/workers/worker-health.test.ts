import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openSql, type Sql } from '../database/connection.ts';
import { migrate } from '../database/migrate.ts';
import { loadMigrations } from '../node.ts';
import { internNamespace } from '../tasks/lanes.ts';
import { livingWorkers } from '../tasks/standing.ts';
import { listWorkers, registerWorker } from './sessions.ts';
import { dropHealthMinutes, livingHealth, readHealthMinutes, recordHealth, type ToldHealth } from './worker-health.ts';

let sql: Sql;
let namespaceId: number;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const database = await testDatabase();
  sql = openSql(database.url, { max: 1 });
  await migrate(sql, loadMigrations());
  namespaceId = await internNamespace(sql, 'default');
  cleanUp.push(
    () => sql.end({ timeout: 5 }),
    () => database.drop(),
  );
});
afterAll(async () => {
  for (const each of cleanUp) await each();
});

let sessions = 0;
const register = (name: string) =>
  registerWorker(sql, {
    sessionId: String(++sessions),
    namespaceId,
    name,
    instanceId: `instance ${sessions}`,
    capabilities: {},
    serviceUrl: '',
    version: '0',
    metadata: {},
    leaseTtlMs: 60_000,
  });

const told = (sessionId: string, issues: string[], more: Partial<ToldHealth> = {}): ToldHealth => ({
  sessionId,
  healthy: issues.length === 0,
  ageMs: 0,
  report: { healthy: issues.length === 0, issues: issues.map((code) => ({ code })), gates: [] },
  sample: { issues, cpuPercent: 10 * (issues.length + 1) },
  ...more,
});

const healthOf = async (name: string) =>
  (await listWorkers(sql, { namespaceId, afterName: '', limit: 1, includeGone: true, name }))[0]!.health;

it('keeps the newest report of a worker, and of each minute its last values with all of its issues', async () => {
  const { sessionId, workerId } = await register('anna');
  expect(await healthOf('anna')).toBeNull();
  await recordHealth(sql, [told(sessionId, ['DISK'])]);
  await recordHealth(sql, [told(sessionId, [])]);
  expect(await healthOf('anna')).toMatchObject({ report: { healthy: true }, ageMs: expect.any(Number) });
  const minutes = await readHealthMinutes(sql, workerId, 60);
  // The two may lie on either side of a full minute.
  expect(minutes.map((each) => each.healthy)).toContain(false);
  expect(minutes.flatMap((each) => each.sample.issues)).toEqual(['DISK']);
  expect(minutes.at(-1)!.sample).toMatchObject({ cpuPercent: 10 });
});

it('does not put an older report in the place of a newer one', async () => {
  const { sessionId } = await register('bert');
  await recordHealth(sql, [told(sessionId, ['CPU'])]);
  await recordHealth(sql, [told(sessionId, [], { ageMs: 30_000 })]);
  expect(await healthOf('bert')).toMatchObject({ report: { healthy: false } });
});

it('takes nothing from a session that is not the newest of its worker, and shows nothing of an earlier one', async () => {
  const first = await register('carl');
  await recordHealth(sql, [told(first.sessionId, ['DISK'])]);
  const second = await register('carl');
  expect(await healthOf('carl')).toBeNull();
  await recordHealth(sql, [told(first.sessionId, ['DISK'])]);
  expect(await healthOf('carl')).toBeNull();
  await recordHealth(sql, [told(second.sessionId, []), told('999', [])]);
  expect(await healthOf('carl')).toMatchObject({ report: { healthy: true } });
});

it('tells of living workers their reports, and the gates that stop all new work', async () => {
  const { sessionId } = await register('dora');
  const gates = [
    { code: 'MEMORY', message: 'memory is full', device: '' },
    { code: 'GPU_MEMORY', message: 'a device is full', device: 'GPU-1' },
  ];
  await recordHealth(sql, [told(sessionId, [], { report: { healthy: true, issues: [], gates } })]);
  const living = await livingWorkers(sql, namespaceId);
  expect(living.find((worker) => worker.workerName === 'dora')!.gates).toEqual(['memory is full']);
  expect(living.find((worker) => worker.workerName === 'bert')!.gates).toEqual([]);
  expect((await livingHealth(sql, 100)).map((row) => row.worker)).toContain('dora');
  const [row] = await sql.unsafe(`select healthy, gates from baton.v_workers where name = 'dora'`);
  expect(row).toMatchObject({ healthy: true, gates: [{ code: 'MEMORY' }, { code: 'GPU_MEMORY' }] });
});

it('forgets old minutes', async () => {
  const { sessionId, workerId } = await register('emil');
  await recordHealth(sql, [told(sessionId, [], { ageMs: 7_200_000 })]);
  await recordHealth(sql, [told(sessionId, [])]);
  expect(await readHealthMinutes(sql, workerId, 1_440)).toHaveLength(2);
  await dropHealthMinutes(sql, 3_600_000);
  expect(await readHealthMinutes(sql, workerId, 1_440)).toHaveLength(1);
});
