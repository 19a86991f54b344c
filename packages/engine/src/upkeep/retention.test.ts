import { createIdMaker } from '@baton/domain';
import {
  eventsNow,
  listPartitions,
  openPools,
  openSql,
  type Pools,
  reachesBack,
  retirePartitions,
  type Sql,
  takeDuty,
} from '@baton/store';
import { makePast } from '@baton/store/testing';
import { testDatabase } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { createEngine, type Engine } from '../engine.ts';
import { type EngineEnvironment, silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { createRetention, type RetentionReport } from './retention.ts';

const DAY_MS = 86_400_000;

interface Stage {
  env: EngineEnvironment;
  engine: Engine;
  pools: Pools;
  sql: Sql;
  url: string;
  /** Tasks are as old as this from now on. */
  age(days: number): void;
  session: string;
  submit(request?: { runAtMs?: number; queue?: string; input?: Uint8Array }): Promise<string>;
  /** Takes tasks from the queue and ends them. */
  end(queue: string): Promise<void>;
  take(queue: string): Promise<{ taskId: string; epoch: number }>;
  /** Moves what is told of these tasks' ends to the time of their ids. */
  endedThen(...ids: string[]): Promise<void>;
  rows(table: string, id: string): Promise<number>;
}

/** A database that has been in use for ten weeks, and an engine on it whose ids can be of the past. */
async function stage(): Promise<Stage> {
  const database = await testDatabase({ migrated: true });
  const one = openSql(database.url, { max: 1 });
  await makePast(one, 10);
  await one.end();
  const pools = openPools(database.url);
  let days = 0;
  const makers = new Map<number, ReturnType<typeof createIdMaker>>();
  const ids = {
    next() {
      let maker = makers.get(days);
      if (!maker) {
        const back = days * DAY_MS;
        maker = createIdMaker(12, () => Date.now() - back);
        makers.set(days, maker);
      }
      return maker.next();
    },
  };
  const env = { pools, ids, settings: DEFAULT_SETTINGS, now: Date.now, random: Math.random, log: silentLog };
  const engine = createEngine(env);
  onTestFinished(async () => {
    await engine.stop();
    await pools.end();
    await database.drop();
  });
  const { sessionId } = await engine.sessions.register('default', {
    name: 'w',
    instanceId: 'w',
    serviceUrl: '',
    version: '0',
    metadata: {},
    capabilities: {
      taskClasses: [],
      tags: [],
      executors: ['function'],
      kinds: ['a', 'b', 'c'],
      queues: [],
      slots: 100,
    },
  });
  let offers = 0n;
  const take = async (queue: string) => {
    for (const lane of engine.lanes.all()) lane.paused = lane.queue !== queue;
    const offer = { number: ++offers, freeSlots: 1 };
    const { assignments } = await engine.sessions.exchange({ sessionId, results: [], offer, waitMs: 0 });
    return assignments[0]!;
  };
  return {
    env,
    engine,
    pools,
    sql: pools.api,
    url: database.url,
    session: sessionId,
    age: (value) => {
      days = value;
    },
    submit: async ({ queue = 'q', ...request } = {}) =>
      (await engine.submitter.submit('default', { kind: 'a', queue, ...request })).taskId,
    take,
    async end(queue) {
      const { taskId, epoch } = await take(queue);
      const outcome = { type: 'success', output: Uint8Array.of(0x31), encoding: 1 } as const;
      const results = [{ taskId, epoch, outcome, ranUs: 1 }];
      await engine.sessions.exchange({ sessionId, results, offer: null, waitMs: 0 });
    },
    async endedThen(...tasks) {
      for (const table of ['outcomes', 'attempts'])
        await pools.api.unsafe(
          `update baton.${table} set ended_at = baton.id_time(task_id) where task_id = any($1::bigint[])`,
          [`{${tasks}}`],
        );
    },
    async rows(table, id) {
      const column = table === 'tasks' ? 'id' : 'task_id';
      const [row] = await pools.api.unsafe(`select count(*)::integer as n from baton.${table} where ${column} = $1`, [
        id,
      ]);
      return row!.n as number;
    },
  };
}

const fates = (report: RetentionReport) => new Set(report.partitions.map((p) => p.fate));
const refusal = (reason: string) => ({ reason });

test('what is older than history goes, week by week, what lives or has ended lately stays and goes on', async () => {
  const s = await stage();
  s.age(50);
  const [gone, late, leased, ready, waiting] = [
    await s.submit({ queue: 'gone' }),
    await s.submit({ queue: 'late' }),
    await s.submit({ queue: 'leased' }),
    await s.submit({ queue: 'ready', input: new Uint8Array(5_000) }),
    await s.submit({ queue: 'waiting', runAtMs: Date.now() + DAY_MS }),
  ];
  await s.end('gone');
  await s.end('late');
  await s.endedThen(gone);
  const lease = await s.take('leased');
  await s.engine.appendLogs({
    taskId: leased,
    epoch: lease.epoch,
    sessionId: s.session,
    sequence: '0',
    at: new Date(),
    stream: 'log',
    text: 'a line',
  } as never);
  s.age(10);
  const young = await s.submit({ queue: 'young' });
  await s.end('young');
  await s.endedThen(young);
  const before = await listPartitions(s.sql);

  const retention = createRetention(s.env);
  const dry = await retention.run({ dryRun: true });
  expect(fates(dry)).toEqual(new Set(['would be dropped']));
  expect(await listPartitions(s.sql)).toEqual(before);

  const report = await retention.run();
  expect(fates(report)).toEqual(new Set(['dropped']));
  expect(report.partitions.map((p) => p.name).sort()).toEqual(dry.partitions.map((p) => p.name).sort());
  expect(report.tasksKept).toBe(4);
  const cutoffMs = Date.now() - 30 * DAY_MS;
  for (const p of await listPartitions(s.sql)) if (!p.isOld) expect(p.until.getTime()).toBeGreaterThan(cutoffMs);
  // Nothing is dropped before its time.
  for (const p of before.filter((b) => b.until.getTime() > cutoffMs))
    expect((await listPartitions(s.sql)).map((a) => a.name)).toContain(p.name);

  await expect(s.engine.tasks.get('default', gone, 0)).rejects.toMatchObject(refusal('TASK_NOT_FOUND'));
  for (const table of ['tasks', 'outcomes', 'attempts']) expect(await s.rows(table, gone)).toBe(0);
  expect(await s.engine.tasks.get('default', late, 0)).toMatchObject({ state: 'succeeded' });
  expect(await s.rows('attempts', late)).toBe(1);
  expect(await s.engine.tasks.get('default', young, 0)).toMatchObject({ state: 'succeeded' });
  expect(await s.engine.tasks.get('default', ready, 0)).toMatchObject({ state: 'ready', input: Buffer.alloc(5_000) });
  expect(await s.engine.tasks.get('default', waiting, 0)).toMatchObject({ state: 'scheduled' });
  expect(await s.engine.tasks.get('default', leased, 0)).toMatchObject({ state: 'leased' });

  // What stayed goes on as if nothing had been.
  const outcome = { type: 'success', output: Uint8Array.of(0x32), encoding: 1 } as const;
  const results = [{ taskId: leased, epoch: lease.epoch, outcome, ranUs: 1 }];
  const answer = await s.engine.sessions.exchange({ sessionId: s.session, results, offer: null, waitMs: 0 });
  expect(answer.refused).toEqual([]);
  expect(await s.engine.tasks.get('default', leased, 0)).toMatchObject({
    state: 'succeeded',
    output: Buffer.of(0x32),
  });
  await s.end('ready');
  expect(await s.engine.tasks.get('default', ready, 0)).toMatchObject({ state: 'succeeded' });
  expect(await s.engine.tasks.cancel('default', waiting, 'over')).toBe('cancelled');
  const again = await retention.run();
  expect(again.partitions).toEqual([]);
  // And a master whose clock is far behind still stores.
  s.age(200);
  expect(await s.engine.tasks.get('default', await s.submit(), 0)).toMatchObject({ state: 'ready' });
});

test('what was kept goes when its own time is over', async () => {
  const s = await stage();
  s.age(60);
  const id = await s.submit({ queue: 'slow' });
  s.age(45);
  const other = await s.submit({ queue: 'other' });
  const week = { ...s.env, settings: { ...s.env.settings, historyDays: 55 } };
  await createRetention(week).run();
  expect(await s.rows('tasks', id)).toBe(1);
  await s.end('slow');
  await s.endedThen(id);
  await createRetention(s.env).run();
  expect(await s.rows('tasks', id)).toBe(0);
  expect(await s.rows('outcomes', id)).toBe(0);
  expect(await s.engine.tasks.get('default', other, 0)).toMatchObject({ state: 'ready' });
});

test('runs that ended before go with their nodes; those that are open, or ended lately, keep their tasks', async () => {
  const s = await stage();
  const definition = JSON.stringify({ name: 'flow', nodes: { a: { task: 'a' }, b: { task: 'b', needs: ['a'] } } });
  await s.engine.workflows.apply('default', definition);
  s.age(50);
  const request = { input: null, encoding: 1, idempotencyKey: null, labels: null } as const;
  const start = async () =>
    (await s.engine.runs.start('default', { workflow: { name: 'flow', version: null }, ...request })).runId;
  const nodeTask = async (run: string) => {
    const [row] = await s.sql.unsafe(`select task_id from baton.run_nodes where run_id = $1 and node_id = 'a'`, [run]);
    return row!.task_id as string;
  };
  const settled = (run: string, state: string) =>
    expect
      .poll(async () => (await s.sql.unsafe('select state from baton.runs where id = $1', [run]))[0]!.state, {
        timeout: 10_000,
      })
      .toBe(state);
  const ids: Record<string, { run: string; task: string }> = {};
  for (const name of ['gone', 'open', 'late']) {
    const run = await start();
    s.engine.runs.poke();
    await expect.poll(() => nodeTask(run), { timeout: 10_000 }).toBeTruthy();
    ids[name] = { run, task: await nodeTask(run) };
    await s.end('default');
    if (name === 'open') {
      s.engine.runs.poke();
      await expect
        .poll(async () => (await s.sql.unsafe(`select count(*)::integer as n from baton.ready`))[0]!.n)
        .toBe(1);
      await s.take('default');
      continue;
    }
    s.engine.runs.poke();
    await expect
      .poll(async () => (await s.sql.unsafe(`select count(*)::integer as n from baton.ready`))[0]!.n, {
        timeout: 10_000,
      })
      .toBe(1);
    await s.end('default');
    s.engine.runs.poke();
    await settled(run, 'succeeded');
  }
  await s.sql.unsafe(`update baton.outcomes set ended_at = baton.id_time(task_id)`);
  await s.sql.unsafe(`update baton.runs set ended_at = baton.id_time(id) where id = $1`, [ids.gone!.run]);
  const report = await createRetention(s.env).run();
  expect(report.runs).toBe(1);
  expect(await s.sql.unsafe('select from baton.runs where id = $1', [ids.gone!.run])).toHaveLength(0);
  expect(await s.sql.unsafe('select from baton.run_nodes where run_id = $1', [ids.gone!.run])).toHaveLength(0);
  expect(await s.rows('tasks', ids.gone!.task)).toBe(0);
  for (const name of ['open', 'late']) {
    expect(await s.rows('outcomes', ids[name]!.task)).toBe(1);
    expect(await s.engine.tasks.get('default', ids[name]!.task, 0)).toMatchObject({
      state: 'succeeded',
      runId: ids[name]!.run,
    });
  }
});

test('cursors into dropped events are refused, later ones are not', async () => {
  const s = await stage();
  await s.submit();
  await expect.poll(async () => BigInt((await eventsNow(s.sql)).xid)).toBeGreaterThan(0n);
  await s.sql.unsafe(`update baton.events set at = at - interval '50 days'`);
  const [last] = await s.sql.unsafe('select xid::text as xid, id from baton.events order by xid desc, id desc limit 1');
  await s.submit();
  const first = { xid: '3', id: '0' };
  const report = await createRetention(s.env).run();
  expect(report.partitions.filter((p) => p.parent === 'events').length).toBeGreaterThan(3);
  expect(await reachesBack(s.sql, first)).toBe(false);
  expect(await reachesBack(s.sql, { xid: last!.xid as string, id: last!.id as string })).toBe(true);
  // "Now" is held back by transactions of every database of the server, which here may have begun before what was dropped.
  await expect.poll(async () => reachesBack(s.sql, await eventsNow(s.sql)), { timeout: 20_000 }).toBe(true);
  expect((await s.sql.unsafe('select count(*)::integer as n from baton.events'))[0]!.n).toBe(1);
});

test('several masters at once drop each partition once, and keep what lives once', async () => {
  const s = await stage();
  s.age(50);
  const ids = await Promise.all(Array.from({ length: 200 }, () => s.submit()));
  const others = [1, 2].map(() => ({ ...s.env, pools: openPools(s.url) }));
  onTestFinished(async () => void (await Promise.all(others.map((o) => o.pools.end()))));
  const reports = await Promise.all([s.env, ...others].map((env) => createRetention(env).run()));
  const dropped = reports.flatMap((r) => r.partitions.filter((p) => p.fate === 'dropped').map((p) => p.name));
  expect(new Set(dropped).size).toBe(dropped.length);
  await createRetention(s.env).run();
  const left = await listPartitions(s.sql);
  expect(left.filter((p) => !p.isOld && p.until.getTime() < Date.now() - 31 * DAY_MS)).toEqual([]);
  const [row] = await s.sql.unsafe(
    'select count(*)::integer as n, count(distinct id)::integer as d from baton.tasks where id = any($1::bigint[])',
    [`{${ids}}`],
  );
  expect(row).toEqual({ n: 200, d: 200 });
  expect(left.filter((p) => p.name.endsWith('_next'))).toEqual([]);
});

test('a crash in the middle leaves nothing half done, and the next one goes on', async () => {
  const s = await stage();
  s.age(50);
  const [alive, gone] = [await s.submit({ queue: 'alive' }), await s.submit({ queue: 'gone' })];
  await s.end('gone');
  await s.endedThen(gone);
  const oldest = (await listPartitions(s.sql)).filter((p) => !p.isOld);
  const of = (parents: string[]) =>
    oldest.filter((p) => parents.includes(p.parent) && p.until.getTime() === oldest[0]!.until.getTime());
  // Within the step: all of it is undone.
  const one = openSql(s.url, { max: 1 });
  await one.unsafe('begin');
  expect(await retirePartitions(one, of(['tasks', 'outcomes']), [alive], 1_000)).toBe('dropped');
  await one.unsafe('select pg_terminate_backend(pg_backend_pid())').catch(() => {});
  await one.end({ timeout: 1 });
  expect((await listPartitions(s.sql)).filter((p) => !p.isOld)).toHaveLength(oldest.length);
  expect(await s.rows('tasks', gone)).toBe(1);
  // Between the steps.
  expect(await retirePartitions(s.sql, of(['tasks', 'outcomes']), [alive], 1_000)).toBe('dropped');
  const report = await createRetention(s.env).run();
  expect(fates(report)).toEqual(new Set(['dropped']));
  expect(await s.rows('attempts', gone)).toBe(0);
  expect(await s.engine.tasks.get('default', alive, 0)).toMatchObject({ state: 'ready' });
});

test('whoever reads for long is not disturbed, and nobody waits for long because of it', async () => {
  const s = await stage();
  s.age(50);
  const id = await s.submit();
  const reader = openSql(s.url, { max: 1 });
  await reader.unsafe('begin; select count(*) from baton.tasks');
  const retention = createRetention(s.env, { tries: 4 });
  let over = false;
  let longest = 0;
  s.age(0);
  const submits = (async () => {
    while (!over) {
      const began = performance.now();
      await s.submit();
      longest = Math.max(longest, performance.now() - began);
    }
  })();
  const report = await retention.run();
  over = true;
  await submits;
  const fateOf = (parent: string) => new Set(report.partitions.filter((p) => p.parent === parent).map((p) => p.fate));
  expect(fateOf('tasks')).toEqual(new Set(['busy']));
  expect(fateOf('attempts')).toEqual(new Set(['dropped']));
  // A wait in the queue for the lock, and what the machine adds.
  expect(longest).toBeLessThan(1_000);
  await reader.unsafe('commit');
  await reader.end();
  expect(fates(await retention.run())).toEqual(new Set(['dropped']));
  expect(await s.engine.tasks.get('default', id, 0)).toMatchObject({ state: 'ready' });
});

test('it is a duty of one master a day', async () => {
  const s = await stage();
  const partitions = (await listPartitions(s.sql)).length;
  await createRetention(s.env).runIfDue();
  const left = (await listPartitions(s.sql)).length;
  expect(left).toBeLessThan(partitions);
  expect(await takeDuty(s.sql, 'retention', DAY_MS)).toBe(false);
  await s.sql.unsafe(`update baton.sweeps set last_at = last_at - interval '25 hours' where name = 'retention'`);
  const taken = await Promise.all([1, 2, 3].map(() => takeDuty(s.sql, 'retention', DAY_MS)));
  expect(taken.filter(Boolean)).toHaveLength(1);
});

test('history that is kept for a hundred years is kept', async () => {
  const s = await stage();
  const century = { ...s.env, settings: { ...s.env.settings, historyDays: 36_500 } };
  const partitions = (await listPartitions(s.sql)).length;
  expect((await createRetention(century).run()).partitions).toEqual([]);
  expect(await listPartitions(s.sql)).toHaveLength(partitions);
});
