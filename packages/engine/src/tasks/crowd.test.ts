import { createIdMaker } from '@baton/domain';
import { openPools, openSql, type Sql } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';
import type { Capabilities } from '../dispatch/ability.ts';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS, type EngineSettings } from '../settings.ts';

const capabilities: Capabilities = {
  taskClasses: ['cpu_short'],
  tags: [],
  executors: ['function'],
  kinds: ['work'],
  queues: [],
  slots: 10,
};

/** A pool that remembers what is asked of it: the comment that each statement begins with. */
function recorded(sql: Sql, names: string[]): Sql {
  return new Proxy(sql, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (name !== 'unsafe') return value;
      return (...args: Parameters<Sql['unsafe']>) => {
        names.push(/^\/\* (.*?) \*\//.exec(args[0])?.[1] ?? args[0]);
        return (value as Sql['unsafe']).apply(target, args);
      };
    },
  });
}

/** Masters over one database; their periodic duties rest. */
async function masters(count: number, settings: Partial<EngineSettings> = {}) {
  const database = await testDatabase({ migrated: true });
  const admin = openSql(database.url, { max: 1 });
  const leaseStatements: string[] = [];
  const engines = Array.from({ length: count }, (_, n): Engine => {
    const pools = openPools(database.url, { hot: 2, lease: 2, api: 2 });
    onTestFinished(() => pools.end());
    return createEngine({
      pools: { ...pools, lease: recorded(pools.lease, leaseStatements) },
      ids: createIdMaker(20 + n, Date.now),
      settings: { ...DEFAULT_SETTINGS, ...settings },
      now: Date.now,
      random: Math.random,
      endOfTurn: setImmediate,
      log: silentLog,
    });
  });
  onTestFinished(async () => {
    for (const engine of engines) await engine.stop();
    await admin.end();
    await database.drop();
  });
  const register = (engine: Engine, name: string) => {
    const about = { instanceId: name, capabilities, serviceUrl: '', version: '0', metadata: {} };
    return engine.sessions.register('default', { name, ...about });
  };
  return { engines, admin, leaseStatements, register };
}

async function grant(engine: Engine, sessionId: string, count: number, number: bigint) {
  const input = { sessionId, results: [], offer: { number, freeSlots: count }, waitMs: 5_000 };
  const { assignments } = await engine.sessions.exchange(input);
  return assignments;
}

test('500 idle workers heartbeat, are answered without a statement each, and all are renewed by one a little later', {
  timeout: 60_000,
}, async () => {
  const { engines, admin, leaseStatements, register } = await masters(1, { heartbeatIntervalMs: 1_000 });
  const [engine] = engines;
  const sessions: string[] = [];
  for (let n = 0; n < 500; n += 50)
    sessions.push(
      ...(await Promise.all(Array.from({ length: 50 }, (_, i) => register(engine!, `w${n + i}`)))).map(
        ({ sessionId }) => sessionId,
      ),
    );
  const beats = (number: bigint) =>
    Promise.all(
      sessions.map((sessionId) =>
        engine!.sessions.heartbeat({
          sessionId,
          number,
          count: 0,
          xor: 0n,
          held: [],
          heldIsComplete: false,
          signs: [],
          draining: false,
          metrics: { cpu: 1 },
        }),
      ),
    );
  leaseStatements.length = 0;
  for (let number = 1n; number <= 4n; number++)
    for (const { lost, sendHeld, leaseTtlMs } of await beats(number)) {
      expect([lost, sendHeld]).toEqual([[], false]);
      expect(leaseTtlMs).toBeLessThan(DEFAULT_SETTINGS.leaseTtlMs);
      expect(leaseTtlMs).toBeGreaterThan(DEFAULT_SETTINGS.leaseTtlMs / 2);
    }
  const written = async () =>
    (
      await admin`select count(*)::int as all, min(beat)::text as beat, (max(metrics ->> 'cpu'))::text as cpu from baton.sessions`
    )[0];
  await expect.poll(written, { timeout: 10_000 }).toEqual({ all: 500, beat: '4', cpu: '1' });
  // 2 000 heartbeats.
  expect(new Set(leaseStatements)).toEqual(new Set(['baton renew']));
  expect(leaseStatements.length).toBeLessThan(10);
});

test('two masters that are told the same ends in opposite order take each once, and do not deadlock', {
  timeout: 60_000,
}, async () => {
  const { engines, admin, register } = await masters(2);
  const [one, other] = engines as [Engine, Engine];
  const { sessionId } = await register(one, 'w');
  const succeeded = { type: 'success', output: Uint8Array.of(0x31), encoding: 1 } as const;
  const failed = { type: 'failure', failure: { type: 'EVALUATION_ERROR', message: 'no' } } as const;
  for (let round = 1n; round <= 3n; round++) {
    await Promise.all(Array.from({ length: 300 }, () => one.submitter.submit('default', { kind: 'work' })));
    const leases = await grant(one, sessionId, 300, round);
    expect(leases).toHaveLength(300);
    const results = leases.map(({ taskId, epoch }, n) => ({
      taskId,
      epoch,
      ranUs: 1,
      outcome: n % 3 === 0 ? failed : succeeded,
    }));
    const tell = (engine: Engine, said: typeof results) =>
      Promise.all(
        // In calls of many sizes, which end up in batches of their own.
        Array.from({ length: 10 }, (_, n) =>
          engine.sessions.exchange({ sessionId, results: said.slice(n * 30, n * 30 + 30), offer: null, waitMs: 0 }),
        ),
      );
    const answers = await Promise.all([tell(one, results), tell(other, results.toReversed())]);
    // The same word twice is answered like the first.
    expect(answers.flat().flatMap(({ refused }) => refused)).toEqual([]);
  }
  const [ends] = await admin`
    select (select count(*)::int from baton.outcomes where state = 'succeeded') as succeeded, (select count(*)::int from baton.waiting) as waiting,
           (select count(*)::int from baton.attempts) as attempts, (select count(*)::int from baton.leases) as leases`;
  expect(ends).toEqual({ succeeded: 600, waiting: 300, attempts: 900, leases: 0 });
  const [database] = await admin`select deadlocks::int from pg_stat_database where datname = current_database()`;
  expect(database!.deadlocks).toBe(0);
});

test('one bad row in a batch is refused alone; the rest goes through', { timeout: 60_000 }, async () => {
  const { engines, admin } = await masters(1);
  const [engine] = engines;
  // Something that only Postgres finds out.
  await admin.unsafe(`alter table baton.tasks add constraint none_of_these check (priority <> 13)`);
  const answers = await Promise.allSettled(
    Array.from({ length: 200 }, (_, n) => engine!.submitter.submit('default', { kind: 'work', priority: n })),
  );
  const refused = answers.flatMap((each, n) => (each.status === 'rejected' ? [[n, each.reason.reason]] : []));
  expect(refused).toEqual([[13, 'TASK_NOT_STORABLE']]);
  const [kept] =
    await admin`select count(*)::int as tasks, (select count(*)::int from baton.ready) as ready from baton.tasks`;
  expect(kept).toEqual({ tasks: 199, ready: 199 });
});
