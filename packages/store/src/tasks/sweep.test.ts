import { startFaultProxy } from '@baton/testkit';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { openSql, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import { closeSession, renewSessions } from '../workers/sessions.ts';
import { sweepSessions } from './sweep.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;

/** Lease time of these tests; a third of it without a sweep is an outage. */
const LEASE_MS = 1_500;
const OUTAGE_MS = 500;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
});
afterAll(() => db.drop());
beforeEach(async () => {
  await sql.unsafe(`update baton.sessions set state = 'closed'`);
  await sql.unsafe('truncate baton.leases');
  await swept(0);
  await sql.unsafe(`update baton.sweeps set resumed_at = '-infinity' where name = 'sessions'`);
});

/** As if the last sweep had been so long ago. */
const swept = (agoMs: number) =>
  sql.unsafe(
    `update baton.sweeps set last_at = clock_timestamp() - $1::double precision * interval '1 ms' where name = 'sessions'`,
    [agoMs],
  );
/** As if the session had been renewed so long ago. */
const renewed = (sessionId: string, agoMs: number) =>
  sql.unsafe(
    `update baton.sessions set renewed_at = clock_timestamp() - $2::double precision * interval '1 ms',
       expires_at = clock_timestamp() - $2::double precision * interval '1 ms' + interval '${LEASE_MS} ms' where id = $1`,
    [sessionId, agoMs],
  );
const sweep = async (on = sql) =>
  (await sweepSessions(on, OUTAGE_MS)).filter((session) => session.now).map((session) => session.sessionId);
const renew = async (sessionId: string) =>
  (await renewSessions(sql, [{ sessionId, leaseTtlMs: LEASE_MS, metrics: null, number: '1' }], OUTAGE_MS)).size === 1;
/** Until it expires, ms. */
async function left(sessionId: string): Promise<number> {
  const [row] = await sql.unsafe(
    'select extract(epoch from expires_at - clock_timestamp())::double precision * 1000 as ms from baton.sessions where id = $1',
    [sessionId],
  );
  return row!.ms as number;
}

it('a short lease is not taken in an outage that is longer than a third of it', async () => {
  const session = await stage.session('short lease');
  // Half a second before its end everything stopped, for 600 ms.
  await renewed(session, 1_600);
  await swept(600);
  // Whoever comes first: the worker is taken back, and so it is by the sweep.
  expect(await renew(session)).toBe(true);
  await renewed(session, 1_600);
  expect(await sweep()).toEqual([]);
  expect(await left(session)).toBeGreaterThan(LEASE_MS - 200);
  expect(await sweep()).toEqual([]);
});

it('a lease that ran out between sweeps that came in time is taken, whatever one of the masters missed', async () => {
  const session = await stage.session('late');
  await renewed(session, 1_600);
  await swept(OUTAGE_MS - 100);
  expect(await renew(session)).toBe(false);
  expect(await sweep()).toEqual([session]);
  // A master that was stopped for an hour goes on: what it believes is not asked for.
  expect(await sweep()).toEqual([]);
});

it('a session that no sweep gave the chance to renew is not swept', async () => {
  const fresh = await stage.session('fresh', { leaseTtlMs: LEASE_MS });
  // Registered, and everything stopped for an hour.
  await renewed(fresh, 3_600_000);
  await swept(3_600_000);
  expect(await sweep()).toEqual([]);
  expect(await left(fresh)).toBeGreaterThan(LEASE_MS - 200);
  expect(await renew(fresh)).toBe(true);
});

it('a dead worker ends also where one outage follows the other; those that renew do not', async () => {
  const [dead, alive] = [await stage.session('dead'), await stage.session('alive')];
  await renewed(dead, 0);
  let rounds = 0;
  for (; rounds < 30; rounds++) {
    // 300 ms in which the sweeps come in time, then an outage of 2 s.
    await sql.unsafe(`update baton.sessions set expires_at = expires_at - interval '300 ms', renewed_at = renewed_at - interval '300 ms'
                      where state <> 'closed'`);
    await sql.unsafe(`update baton.sweeps set resumed_at = resumed_at - interval '300 ms' where name = 'sessions'`);
    await swept(50);
    expect(await renew(alive)).toBe(true);
    const closed = await sweep();
    if (closed.length > 0) {
      expect(closed).toEqual([dead]);
      break;
    }
    await sql.unsafe(`update baton.sessions set expires_at = expires_at - interval '2 s', renewed_at = renewed_at - interval '2 s'
                      where state <> 'closed'`);
    await sql.unsafe(`update baton.sweeps set resumed_at = resumed_at - interval '2 s' where name = 'sessions'`);
    await swept(2_050);
    expect(await sweep()).toEqual([]);
  }
  // A whole lease after the first outage, and what was left of the one before: ten rounds of 300 ms at most.
  expect(rounds).toBeLessThan(10);
  expect(await left(alive)).toBeGreaterThan(0);
});

it('a session that is being renewed or granted to at this moment is not closed under it, and is looked at again', async () => {
  const session = await stage.session('busy');
  await renewed(session, 1_600);
  const other = openSql(db.url, { max: 1 });
  try {
    await other.unsafe('begin');
    await other.unsafe('select from baton.sessions where id = $1 for share', [session]);
    expect(await sweep()).toEqual([]);
    await other.unsafe('commit');
  } finally {
    await other.end({ timeout: 1 });
  }
  expect(await sweep()).toEqual([session]);
});

it('a master that is stopped in its sweep holds nothing: another sweeps on', async () => {
  const { hostname, port } = new URL(db.url);
  await using proxy = await startFaultProxy({ target: { host: hostname, port: Number(port) }, protocol: 'postgres' });
  const url = new URL(db.url);
  url.hostname = '127.0.0.1';
  url.port = String(proxy.port);
  const stopped = openSql(url.href, { max: 1 });
  try {
    await stopped.unsafe('select 1');
    const first = await stage.session('swept by the stopped one');
    await renewed(first, 1_600);
    // The statement arrives, its answer does not: as when the master is stopped while it waits.
    const lost = proxy.loseAnswer();
    const sweeping = sweep(stopped).catch(() => 'cut');
    await lost;
    expect(await sweeping).toBe('cut');
    const second = await stage.session('swept by the other');
    await renewed(second, 1_600);
    expect(await sweep()).toEqual([second]);
    // What the stopped one closed is closed, and its leases are found by whoever sweeps next.
    const [row] = await sql.unsafe('select state from baton.sessions where id = $1', [first]);
    expect(row!.state).toBe('closed');
    // Its server process learns in its own time that its client is gone.
    await expect
      .poll(async () => {
        const [held] = await sql.unsafe(
          `select count(*)::integer as locks from pg_locks l join pg_database d on d.oid = l.database
           where l.locktype = 'advisory' and d.datname = current_database()`,
        );
        return held!.locks;
      })
      .toBe(0);
  } finally {
    await stopped.end({ timeout: 0 });
  }
});

it('leases of a worker that left are its own leave to hand back, and the sweep does so only when it did not come about', async () => {
  const lane = await stage.lane('left');
  const session = await stage.session('left');
  await stage.submit(lane, 1);
  await stage.claim(lane, session, 1);
  await closeSession(sql, session, 'left');
  expect(await sweepSessions(sql, OUTAGE_MS)).toEqual([]);
  await renewed(session, 1_600);
  expect(await sweepSessions(sql, OUTAGE_MS)).toMatchObject([{ sessionId: session, now: false, reason: 'left' }]);
});
