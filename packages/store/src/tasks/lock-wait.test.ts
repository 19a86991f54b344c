import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSql, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { scene } from '../database/scene.fixture.ts';
import { renewSessions } from '../workers/sessions.ts';
import { claimTasks } from './claim.ts';

let db: MigratedDatabase;
let holder: Sql;
beforeAll(async () => {
  db = await migratedDatabase();
  holder = openSql(db.url, { max: 1 });
});
afterAll(async () => {
  await holder?.end({ timeout: 0 });
  await db?.drop();
});

const HELD_S = 1.2;
const LEASE_MS = 600_000;

/** Holds the session's row while something else is begun that has to wait for it; when it was let go, by Postgres. */
async function whileHeld<T>(sessionId: string, act: () => Promise<T>): Promise<{ answer: T; freedAt: number }> {
  const held = holder.unsafe(
    `with held as materialized (select id from baton.sessions where id = $1 for update)
     select pg_sleep(${HELD_S}) from held`,
    [sessionId],
  );
  const freed = held.then(async () => Number((await now())[0]!.ms));
  // It sleeps with the lock in its hand.
  const locked = async () =>
    (
      await db.sql`select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep' and query ~ 'for update'`
    ).length > 0;
  while (!(await locked()));
  const answer = await act();
  return { answer, freedAt: await freed };
}

const now = () => db.sql`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`;

test('a renewal that waited for a lock gives the full lease time from when it got it', async () => {
  const sessionId = await scene(db.sql).session('renewing', { leaseTtlMs: LEASE_MS });
  const { freedAt } = await whileHeld(sessionId, () =>
    renewSessions(db.sql, [{ sessionId, leaseTtlMs: LEASE_MS, metrics: null, number: '1' }]),
  );
  const [session] = await db.sql`
    select (extract(epoch from expires_at) * 1000)::float8 as expires, (extract(epoch from renewed_at) * 1000)::float8 as renewed
    from baton.sessions where id = ${sessionId}`;
  // A moment goes by between the end of the lock and the look at the clock.
  expect(session!.renewed).toBeGreaterThan(freedAt - 500);
  expect(session!.expires).toBeGreaterThan(freedAt - 500 + LEASE_MS);
});

test('a grant that waited for a lock counts from when it got it', async () => {
  const stage = scene(db.sql);
  const lane = await stage.lane('waits');
  const sessionId = await stage.session('waiting', { leaseTtlMs: LEASE_MS });
  const [taskId] = await stage.submit(lane, 1);
  const { answer, freedAt } = await whileHeld(sessionId, () =>
    claimTasks(db.sql, [lane.id], [{ sessionId, count: 1 }]),
  );
  expect(answer.map((grant) => grant.taskId)).toEqual([taskId]);
  const [lease] =
    await db.sql`select (extract(epoch from granted_at) * 1000)::float8 as granted from baton.leases where task_id = ${taskId!}`;
  expect(lease!.granted).toBeGreaterThan(freedAt - 500);
});

test('nothing is granted to a session whose time ran out while the grant waited', async () => {
  const stage = scene(db.sql);
  const lane = await stage.lane('late');
  const sessionId = await stage.session('late', { leaseTtlMs: HELD_S * 600 });
  const ids = await stage.submit(lane, 1);
  const { answer } = await whileHeld(sessionId, () => claimTasks(db.sql, [lane.id], [{ sessionId, count: 1 }]));
  expect(answer).toEqual([]);
  expect(await stage.places(ids)).toEqual(['ready']);
});
