import { createIdMaker } from '@baton/domain';
import { closeSession, type HintChannel, internLane, openPools, openSql, type Sql, submitTasks } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';
import type { Capabilities } from '../dispatch/ability.ts';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS, type EngineSettings } from '../settings.ts';

const TURN_MS = 50;
const capabilities: Capabilities = {
  taskClasses: ['cpu_short'],
  tags: [],
  executors: ['function'],
  kinds: ['work'],
  queues: [],
  slots: 10,
};

/** It hears nobody but itself. */
function alone(): HintChannel {
  let hear = (_: string) => {};
  return {
    notify: async (payload) => hear(payload),
    listen(onPayload, onListening) {
      hear = onPayload;
      onListening();
    },
    end: async () => {},
  };
}

/** Masters with their periodic duties, whose hints to each other are lost; what they ask Postgres, by the names of the statements. */
async function masters(count: number, settings: Partial<EngineSettings> = {}, hints: () => HintChannel = alone) {
  const database = await testDatabase({ migrated: true });
  const admin = openSql(database.url, { max: 1 });
  const statements: string[] = [];
  let drawn = 0;
  const recorded = (sql: Sql): Sql =>
    new Proxy(sql, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown;
        if (name !== 'unsafe') return value;
        return (...args: Parameters<Sql['unsafe']>) => {
          statements.push(/^\/\* (.*?) \*\//.exec(args[0])?.[1] ?? args[0]);
          return (value as Sql['unsafe']).apply(target, args);
        };
      },
    });
  const engines = Array.from({ length: count }, (_, n): Engine => {
    const pools = openPools(database.url, { hot: 1, lease: 2, api: 1 });
    onTestFinished(() => pools.end());
    return createEngine({
      pools: { ...pools, hot: recorded(pools.hot), lease: recorded(pools.lease), api: recorded(pools.api) },
      ids: createIdMaker(40 + n, Date.now),
      settings: { ...DEFAULT_SETTINGS, sweepIntervalMs: TURN_MS, ...settings },
      now: Date.now,
      random: () => {
        drawn++;
        return Math.random();
      },
      endOfTurn: setImmediate,
      hints: hints(),
      log: silentLog,
    });
  });
  onTestFinished(async () => {
    for (const engine of engines) await engine.stop();
    await admin.end();
    await database.drop();
  });
  const register = async (engine: Engine, name: string) => {
    const about = { instanceId: name, capabilities, serviceUrl: '', version: '0', metadata: {} };
    return (await engine.sessions.register('default', { name, ...about })).sessionId;
  };
  const poll = (engine: Engine, sessionId: string) =>
    engine.sessions.exchange({ sessionId, results: [], offer: { number: 1n, freeSlots: 1 }, waitMs: 20_000 });
  /** Nothing is there, as the next looks will find. */
  const rest = async () => {
    const looks = () => statements.filter((name) => name === 'baton look').length;
    const before = looks();
    await expect.poll(looks, { timeout: 10_000 }).toBeGreaterThan(before + 2 * count);
  };
  /** Of both loops: the pause after each draws a number. */
  const turns = () => drawn;
  return { engines, admin, statements, register, poll, rest, turns };
}

/** As a master would whose hints are lost. */
async function storeElsewhere(admin: Sql, queue: string, delayMs: number | null): Promise<string> {
  const key = { namespaceId: 1, queue, kind: 'work', executor: 'function', taskClass: 'cpu_short', tags: [] } as const;
  const lane = await internLane(admin, { ...key, tags: [] });
  const id = createIdMaker(60, Date.now).next();
  await submitTasks(admin, [
    {
      id,
      namespaceId: 1,
      routeId: lane.routeId,
      laneId: lane.id,
      priority: 0,
      maxAttempts: 1,
      startToCloseMs: 1_000,
      encoding: 1,
      input: null,
      dueAtMs: delayMs === null ? null : Date.now() + delayMs,
      idempotency: null,
      extra: null,
    },
  ]);
  return id;
}

test('a master with idle workers makes one look and one sweep in four turns, and no other statement', {
  timeout: 30_000,
}, async () => {
  const { engines, admin, statements, register, poll, rest, turns } = await masters(1);
  const [engine] = engines;
  // A queue that was used, and is empty.
  const taskId = await storeElsewhere(admin, 'used', null);
  await admin`delete from baton.ready where task_id = ${taskId}`;
  engine!.start();
  const sessions = await Promise.all(Array.from({ length: 20 }, (_, n) => register(engine!, `w${n}`)));
  const polls = sessions.map((sessionId) => poll(engine!, sessionId));
  await rest();
  statements.length = 0;
  const from = turns();
  await rest();
  await rest();
  expect(new Set(statements)).toEqual(new Set(['baton look', 'baton sweep sessions']));
  expect(statements.length).toBeLessThanOrEqual((turns() - from) / 4 + 2);
  for (const sessionId of sessions) await engine!.sessions.leave(sessionId, 'over');
  await Promise.all(polls);
});

test('a master that cannot hear hints looks and sweeps in every turn', { timeout: 30_000 }, async () => {
  const deaf = () => ({ ...alone(), listen: (_: unknown, onListening: () => void) => onListening() });
  const { engines, statements, turns, rest } = await masters(1, {}, deaf);
  engines[0]!.start();
  await rest();
  statements.length = 0;
  const from = turns();
  await rest();
  await rest();
  expect(statements.length).toBeGreaterThanOrEqual(turns() - from - 2);
});

test.each([
  ['is ready', null],
  ['becomes due', 200],
])(
  'a task that another master stored, and of which no hint came, is granted when it %s',
  {
    timeout: 30_000,
  },
  async (_, delayMs) => {
    const { engines, admin, register, poll, rest } = await masters(1);
    const [engine] = engines;
    engine!.start();
    const answer = poll(engine!, await register(engine!, 'w'));
    await rest();
    const taskId = await storeElsewhere(admin, 'elsewhere', delayMs);
    expect((await answer).assignments.map((assignment) => assignment.taskId)).toEqual([taskId]);
  },
);

test('an order of another master reaches a worker that waits here, without a hint', { timeout: 30_000 }, async () => {
  const { engines, register, poll, rest } = await masters(2);
  const [one, other] = engines as [Engine, Engine];
  one.start();
  const answer = poll(one, await register(one, 'w'));
  await rest();
  await other.sessions.drain(1, 'w', 'enough');
  expect((await answer).orders.drain).toBe(true);
});

test('a session that was ended elsewhere, and is not heard any more, does not wait for work here', {
  timeout: 30_000,
}, async () => {
  const { engines, admin, register, poll, rest } = await masters(1, { leaseTtlMs: 2_000 });
  const [engine] = engines;
  engine!.start();
  const sessionId = await register(engine!, 'w');
  const answer = poll(engine!, sessionId);
  await rest();
  await closeSession(admin, sessionId, 'swept by another');
  expect(await answer).toMatchObject({ assignments: [] });
  await expect(poll(engine!, sessionId)).rejects.toMatchObject({ reason: 'SESSION_LOST' });
});
