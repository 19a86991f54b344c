import { afterAll, beforeAll, expect, it } from 'vitest';
import { openPools, type Pools } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { completeFunctions } from '../functions/complete-functions.ts';
import { startedFunction } from '../functions/functions.fixture.ts';
import type { Lane } from '../tasks/lanes.ts';
import { readRunEnds } from './read-run-ends.ts';
import { readRun } from './runs.ts';

let db: MigratedDatabase;
let stage: Scene;
let pools: Pools;
let lane: Lane;
let session: string;

beforeAll(async () => {
  db = await migratedDatabase();
  stage = scene(db.sql);
  pools = openPools(db.url);
  lane = await stage.lane('f');
  session = await stage.session('w');
});
afterAll(async () => {
  await pools.end();
  await db.drop();
});

const output = new TextEncoder().encode(JSON.stringify('x'.repeat(998)));

/** Runs of functions, of which the first so many have ended with 1 000 bytes each. */
async function runs(count: number, ended: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n++) ids.push((await startedFunction(db.sql, stage, lane)).runId);
  const leases = await stage.claim(lane, session, ended);
  await completeFunctions(
    pools.hot,
    leases.map(({ taskId, epoch, sessionId }) => ({
      taskId,
      epoch,
      sessionId,
      output,
      encoding: 1,
      ranUs: 1,
      entries: [],
    })),
  );
  await stage.claim(lane, session, count - ended);
  return ids;
}

it('reads those that have ended as they are read one by one, but for their inputs, and names those that are open', async () => {
  const ids = await runs(3, 2);
  const found = await readRunEnds(pools.api, 1, [...ids, '999'], 2 ** 20);
  expect(found).toEqual({
    ended: [
      { ...(await readRun(db.sql, 1, ids[0]!)), input: null },
      { ...(await readRun(db.sql, 1, ids[1]!)), input: null },
    ],
    later: [],
    open: [ids[2]],
  });
  expect(new Uint8Array(found.ended[0]!.output!)).toEqual(output);
});

it('reads as many as the bytes are for, one at least, and names the others that have ended', async () => {
  const ids = await runs(5, 4);
  const few = await readRunEnds(pools.api, 1, ids, 3_000);
  expect(few.ended.map(({ id }) => id)).toEqual(ids.slice(0, 2));
  expect(few.later).toEqual(ids.slice(2, 4));
  expect(few.open).toEqual([ids[4]]);
  const one = await readRunEnds(pools.api, 1, ids, 1);
  expect(one.ended.map(({ id }) => id)).toEqual([ids[0]]);
});

it('a run of another namespace is not there', async () => {
  const ids = await runs(1, 1);
  expect(await readRunEnds(pools.api, 2, ids, 2 ** 20)).toEqual({ ended: [], later: [], open: [] });
});
