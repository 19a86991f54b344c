import { createIdMaker } from '@baton/domain';
import { openPools, type Sql, stepBreaker } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import type { TaskRequest } from '../tasks/submit.ts';
import type { Capabilities } from './ability.ts';

let engine: Engine;
let sql: Sql;
const cleanUp: (() => Promise<unknown>)[] = [];
/** A namespace of each test's own: what other tests' workers can do does not matter. */
let namespace: string;
let tests = 0;

beforeAll(async () => {
  const database = await testDatabase({ migrated: true });
  const pools = openPools(database.url);
  sql = pools.api;
  const ids = createIdMaker(11, Date.now);
  engine = createEngine({ pools, ids, settings: DEFAULT_SETTINGS, now: Date.now, random: Math.random, log: silentLog });
  cleanUp.push(
    () => engine.stop(),
    () => pools.end(),
    () => database.drop(),
  );
});
afterAll(async () => {
  for (const each of cleanUp) await each();
});
beforeEach(() => {
  namespace = `test-${++tests}`;
});

async function worker(name: string, capabilities: Partial<Capabilities> = {}): Promise<string> {
  const { sessionId } = await engine.sessions.register(namespace, {
    name,
    instanceId: `${namespace} ${name}`,
    serviceUrl: '',
    version: '0',
    metadata: {},
    capabilities: {
      taskClasses: ['cpu_short', 'cpu_long'],
      tags: [],
      executors: ['function'],
      kinds: ['paint'],
      queues: [],
      slots: 1,
      protocolVersion: 2,
      ...capabilities,
    },
  });
  return sessionId;
}

let offers = 0n;
async function take(sessionId: string, freeSlots = 1) {
  const offer = { number: ++offers, freeSlots };
  const { assignments } = await engine.sessions.exchange({ sessionId, results: [], offer, waitMs: 0 });
  return assignments;
}

const submit = async (request: Partial<TaskRequest> = {}) =>
  (await engine.submitter.submit(namespace, { kind: 'paint', ...request })).taskId;

const explain = (id: string) => engine.explain(namespace, id);
const reasonsOf = async (id: string) => (await explain(id)).blockers.map((blocker) => blocker.reason);

describe('why a ready task waits', () => {
  it('nothing: it may start any moment', async () => {
    await worker('anna');
    expect(await explain(await submit())).toEqual({
      state: 'ready',
      summary: 'It may start any moment.',
      blockers: [],
      fittingWorkers: 1,
      ahead: 0,
    });
  });

  it('NO_WORKER: nobody is alive, and who is alive elsewhere does not count', async () => {
    const id = await submit();
    const here = namespace;
    namespace = 'elsewhere';
    await worker('bob');
    namespace = here;
    expect(await explain(id)).toMatchObject({
      state: 'ready',
      summary: 'No worker of this namespace is alive.',
      blockers: [
        {
          reason: 'NO_WORKER',
          worker: null,
          missing: [],
          until: null,
          remedy: expect.stringContaining('baton worker'),
        },
      ],
      fittingWorkers: 0,
    });
  });

  it.each<[string, Partial<TaskRequest>, Partial<Capabilities>, string[], RegExp]>([
    ['a tag', { tags: ['SSD'] }, {}, ['tag:ssd'], /the tag ssd/],
    ['a kind', { kind: 'resize' }, {}, ['kind:resize'], /the kind resize/],
    ['a class', { taskClass: 'gpu' }, {}, ['task_class:gpu'], /the task class gpu/],
    ['a queue', { queue: 'night' }, { queues: ['day'] }, ['queue:night'], /the queue night/],
    [
      'an executor',
      { executor: { type: 'grpc', address: 'a:1', method: 'b/c' } },
      {},
      ['executor:grpc'],
      /the executor grpc/,
    ],
    [
      'memory',
      { tags: ['memory>68719476736'] },
      { memoryBytes: 1 },
      ['memory>68719476736'],
      /more than 64.0 GiB of memory/,
    ],
    ['another worker’s name', { tags: ['worker:bob'] }, {}, ['tag:worker:bob'], /the name bob/],
    ['a newer protocol', { progressTimeoutMs: 5_000 }, { protocolVersion: 1 }, ['protocol>1'], /speaks protocol 2/],
    [
      'two things',
      { kind: 'resize', tags: ['ssd'] },
      {},
      ['kind:resize', 'tag:ssd'],
      /the kind resize and the tag ssd/,
    ],
  ])('MISSING_CAPABILITY: %s', async (_, request, capabilities, missing, words) => {
    await worker('anna', capabilities);
    const explained = await explain(await submit(request));
    expect(explained.blockers).toMatchObject([{ reason: 'MISSING_CAPABILITY', worker: 'anna', missing }]);
    expect(explained.summary).toMatch(words);
    expect(explained.summary).toMatch(/^No living worker can take it; the nearest is anna, which lacks /);
    expect(explained.fittingWorkers).toBe(0);
  });

  it('MISSING_CAPABILITY names the nearest first, and not more than five', async () => {
    await worker('far', { kinds: [], taskClasses: ['gpu'] });
    for (let i = 0; i < 6; i++) await worker(`middle-${i}`, { kinds: [] });
    await worker('near', { tags: ['ssd'] });
    const { blockers } = await explain(await submit({ tags: ['ssd', 'eu'] }));
    expect(blockers.map((b) => b.worker)).toEqual(['near', 'middle-0', 'middle-1', 'middle-2', 'middle-3']);
    expect(blockers[0]!.missing).toEqual(['tag:eu']);
    expect(blockers[1]!.missing).toEqual(['kind:paint', 'tag:eu', 'tag:ssd']);
  });

  it('QUEUE_PAUSED comes first, until it goes on', async () => {
    const session = await worker('anna');
    const id = await submit({ queue: 'night' });
    expect(await engine.queues.pause(namespace, 'night')).toBe(false);
    expect(await explain(id)).toMatchObject({
      summary: 'Queue night is paused.',
      blockers: [{ reason: 'QUEUE_PAUSED', remedy: 'let it go on: baton queue resume night' }],
      fittingWorkers: 1,
    });
    expect(await take(session)).toEqual([]);
    expect(await engine.queues.resume(namespace, 'night')).toBe(true);
    expect(await reasonsOf(id)).toEqual([]);
    expect(await take(session)).toMatchObject([{ taskId: id }]);
  });

  it('QUEUE_PAUSED hides nothing of what comes after', async () => {
    await engine.queues.pause(namespace, 'night');
    const id = await submit({ queue: 'night' });
    expect(await reasonsOf(id)).toEqual(['QUEUE_PAUSED', 'NO_WORKER']);
    await worker('anna', { kinds: [] });
    expect(await reasonsOf(id)).toEqual(['QUEUE_PAUSED', 'MISSING_CAPABILITY']);
  });

  it('NO_CAPACITY: who is full, and of what', async () => {
    const [anna, bob] = [await worker('anna', { slots: 2 }), await worker('bob')];
    for (let i = 0; i < 3; i++) await submit();
    expect(await take(anna, 2)).toHaveLength(2);
    expect(await take(bob)).toHaveLength(1);
    const explained = await explain(await submit());
    expect(explained).toMatchObject({ fittingWorkers: 2, ahead: 0 });
    expect(explained.blockers.map(({ reason, worker }) => [reason, worker])).toEqual([
      ['NO_CAPACITY', 'anna'],
      ['NO_CAPACITY', 'bob'],
    ]);
    expect(explained.summary).toMatch(
      /^All 2 workers that could take it are full; anna: 2 tasks for 2 slots \(2 × paint; the oldest for /,
    );
  });

  it('NO_CAPACITY: a worker that is free and does not ask', async () => {
    await worker('anna');
    const id = await submit();
    await sql.unsafe("update baton.ready set position = baton.id_at(now() - interval '1 min') where task_id = $1", [
      id,
    ]);
    expect((await explain(id)).summary).toMatch(
      /^Worker anna has free slots and has not asked for work for (59|6\d)\.\d s|1 min/,
    );
  });

  it('BEHIND_OTHERS: by priority, then by age', async () => {
    const session = await worker('anna');
    await submit();
    expect(await take(session)).toHaveLength(1);
    const ids = [await submit(), await submit(), await submit({ priority: 5 })];
    const seen = await Promise.all(ids.map(explain));
    expect(seen.map((s) => s.ahead)).toEqual([1, 2, 0]);
    expect(seen[1]!.blockers.map((b) => b.reason)).toEqual(['NO_CAPACITY', 'BEHIND_OTHERS']);
    expect(seen[2]!.blockers.map((b) => b.reason)).toEqual(['NO_CAPACITY']);
    expect(seen[1]!.blockers[1]!.message).toBe('2 ready tasks of the same kind go first, by priority and age');
  });

  it('WORKER_DRAINING: the one that could take it takes nothing new', async () => {
    await worker('anna');
    const id = await submit();
    await engine.sessions.drain((await engine.lanes.knownNamespaceId(namespace))!, 'anna', 'maintenance');
    expect(await explain(id)).toMatchObject({
      summary: 'Worker anna could take it, but drains (maintenance).',
      blockers: [{ reason: 'WORKER_DRAINING', worker: 'anna' }],
      fittingWorkers: 0,
    });
  });

  async function breaker(name: string, device: string, to: 'open' | 'half_open', from: 'closed' | 'open' = 'closed') {
    const [row] = await sql.unsafe('select id from baton.workers where name = $1 and namespace_id = $2', [
      name,
      await engine.lanes.knownNamespaceId(namespace),
    ]);
    const step = {
      workerId: row!.id as number,
      device,
      probeTaskId: null,
      probeEpoch: null,
      successes: 0,
      reason: '3 machine-made failures',
    };
    const [old] = await sql.unsafe(
      'select counted_from::text as at from baton.breakers where worker_id = $1 and device = $2',
      [step.workerId, device],
    );
    expect(await stepBreaker(sql, { ...step, from, to, countedFrom: (old?.at as string) ?? null })).toBe(true);
  }

  it('BREAKER_OPEN: until when, then that it is tried', async () => {
    await worker('anna');
    const id = await submit();
    await breaker('anna', '', 'open');
    const { blockers, summary, fittingWorkers } = await explain(id);
    expect(blockers).toMatchObject([{ reason: 'BREAKER_OPEN', worker: 'anna' }]);
    expect(summary).toBe('The breaker of anna is open: 3 machine-made failures.');
    const inMs = blockers[0]!.until!.getTime() - Date.now();
    // The only one that could take it: it is tried soon.
    expect(inMs).toBeGreaterThan(2_000);
    expect(inMs).toBeLessThan(11_000);
    expect(fittingWorkers).toBe(0);
    await breaker('anna', '', 'half_open', 'open');
    expect((await explain(id)).summary).toMatch(/^The breaker of anna is half-open: one task at a time is tried there/);
  });

  it('BREAKER_OPEN: of its only device, for what needs a device', async () => {
    const gpus = [{ uuid: 'GPU-1', memoryBytes: 2 ** 34 }];
    await worker('anna', { taskClasses: ['gpu', 'cpu_short'], gpus });
    const [onGpu, onCpu] = [await submit({ taskClass: 'gpu' }), await submit()];
    await breaker('anna', 'GPU-1', 'open');
    expect(await explain(onGpu)).toMatchObject({
      summary: 'The breaker of device GPU-1 of anna is open: 3 machine-made failures.',
      blockers: [{ reason: 'BREAKER_OPEN', remedy: expect.stringContaining('baton worker reset anna --device GPU-1') }],
    });
    expect(await reasonsOf(onCpu)).toEqual([]);
  });

  it('what some workers cannot do now is no blocker while another is free, and is when that is full', async () => {
    await worker('anna');
    await worker('bob');
    const carl = await worker('carl');
    await breaker('anna', '', 'open');
    await engine.sessions.drain((await engine.lanes.knownNamespaceId(namespace))!, 'bob', '');
    expect(await reasonsOf(await submit())).toEqual([]);
    expect(await take(carl)).toHaveLength(1);
    const { blockers } = await explain(await submit());
    expect(blockers.map((b) => b.reason)).toEqual(['NO_CAPACITY', 'WORKER_DRAINING', 'BREAKER_OPEN']);
    expect(blockers[2]!.until!.getTime() - Date.now()).toBeGreaterThan(280_000);
  });
});

describe('why a task that is not ready waits', () => {
  it('NOT_DUE: until when, and what would come then', async () => {
    const runAtMs = Date.now() + 200_000;
    const id = await submit({ runAtMs });
    const { state, blockers, summary } = await explain(id);
    expect(state).toBe('scheduled');
    expect(blockers.map((b) => b.reason)).toEqual(['NOT_DUE', 'NO_WORKER']);
    expect(blockers[0]!.until).toEqual(new Date(runAtMs));
    expect(summary).toMatch(/^It is scheduled: it waits until .*Z, in 3 min (1\d|20) s\.$/);
  });

  it('BACKOFF: until when, and the failure that led there', async () => {
    const session = await worker('anna');
    const id = await submit({ retry: { maxAttempts: 3, initialDelayMs: 60_000, jitter: 0 } });
    const [lease] = await take(session);
    const failure = { type: 'EVALUATION_ERROR', message: 'no paint' } as const;
    const result = { taskId: id, epoch: lease!.epoch, ranUs: 1, outcome: { type: 'failure', failure } as const };
    await engine.sessions.exchange({ sessionId: session, results: [result], offer: null, waitMs: 0 });
    const { state, blockers } = await explain(id);
    expect(state).toBe('backoff');
    expect(blockers).toMatchObject([
      {
        reason: 'BACKOFF',
        message: expect.stringMatching(
          /^it waits until .*, because attempt 1 of 3 failed: EVALUATION_ERROR: no paint$/,
        ),
      },
    ]);
    expect(blockers[0]!.until!.getTime()).toBeGreaterThan(Date.now() + 50_000);
  });

  it('BLOCKED: other work', async () => {
    const id = await submit();
    await sql.unsafe(
      `with gone as (delete from baton.ready where task_id = $1 returning *)
       insert into baton.waiting (task_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, reason)
       select task_id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding, 'blocked' from gone`,
      [id],
    );
    await worker('anna');
    expect(await explain(id)).toMatchObject({ state: 'blocked', summary: 'It waits for other work to end.' });
  });
});

describe('what is said of a task that does not wait', () => {
  it('RUNNING: where, since when, and when it was heard of', async () => {
    const session = await worker('anna');
    const id = await submit();
    const [lease] = await take(session);
    expect((await explain(id)).blockers).toMatchObject([
      {
        reason: 'RUNNING',
        worker: 'anna',
        message: expect.stringMatching(
          /^worker anna holds it since .* and has not said that it began, attempt 1; the worker was last heard \d/,
        ),
      },
    ]);
    const held = { taskId: id, epoch: lease!.epoch, started: true, ranMs: 65_000 };
    await engine.sessions.heartbeat({
      sessionId: session,
      number: 1n,
      count: 1,
      xor: 0n,
      held: [held],
      heldIsComplete: false,
      signs: [{ taskId: id, epoch: lease!.epoch, silentMs: 2_000, timeoutMs: null, fraction: 0.5, message: 'half' }],
      draining: false,
      metrics: null,
      health: null,
    });
    const { summary } = await explain(id);
    expect(summary).toMatch(
      /^It runs on anna since .*, \d+\.\d s, attempt 1; its last sign \(half\) was \d\.\d s ago; the worker was last heard 0\.\d s ago\.$/,
    );
  });

  it('ENDED: how, and what can be done', async () => {
    const cancelled = await submit();
    await engine.tasks.cancel(namespace, cancelled, 'no longer needed');
    expect(await explain(cancelled)).toMatchObject({
      state: 'cancelled',
      summary: expect.stringMatching(/^It was cancelled at .*: no longer needed\.$/),
      blockers: [{ reason: 'ENDED', remedy: `send it again: baton task resend ${cancelled}` }],
    });
    const session = await worker('anna');
    const end = async (outcome: object) => {
      const id = await submit({ retry: { maxAttempts: 1 } });
      const [lease] = await take(session);
      const result = { taskId: id, epoch: lease!.epoch, ranUs: 1, outcome } as never;
      await engine.sessions.exchange({ sessionId: session, results: [result], offer: null, waitMs: 0 });
      return (await explain(id)).summary;
    };
    expect(await end({ type: 'success', output: Uint8Array.of(0x31), encoding: 1 })).toMatch(
      /^It succeeded at .* on anna, in attempt 1\.$/,
    );
    const failure = { type: 'UNKNOWN', message: 'broke' };
    expect(await end({ type: 'failure', failure })).toMatch(
      /^It failed for good at .*, after 1 attempt: UNKNOWN: broke\.$/,
    );
  });

  it('is refused for what does not exist, here', async () => {
    const id = await submit();
    await expect(engine.explain('elsewhere', id)).rejects.toMatchObject({ reason: 'TASK_NOT_FOUND' });
    await expect(explain('77')).rejects.toMatchObject({ reason: 'TASK_NOT_FOUND' });
  });
});

describe('queues', () => {
  it('an unknown one may be paused and not let go on', async () => {
    await expect(engine.queues.resume(namespace, 'nigth')).rejects.toMatchObject({ reason: 'QUEUE_NOT_FOUND' });
    expect(await engine.queues.pause(namespace, 'night')).toBe(false);
    expect(await engine.queues.list(namespace, '', 10)).toMatchObject([{ name: 'night', paused: true, ready: 0 }]);
    await expect(engine.queues.pause(namespace, 'a\u0000b')).rejects.toMatchObject({ reason: 'INVALID_REQUEST' });
  });

  it('are planned as they are by every master, when it has looked at lanes again', async () => {
    const { createLaneBook } = await import('./lane-book.ts');
    const other = createLaneBook(engine.env);
    await submit({ queue: 'shared' });
    const laneOf = () => [...other.all()].find((l) => l.queue === 'shared' && l.namespaceId === id)!;
    const id = await engine.lanes.knownNamespaceId(namespace);
    await other.refresh();
    expect(laneOf().paused).toBe(false);
    await engine.queues.pause(namespace, 'shared');
    expect((await other.refresh()).map((l) => l.id)).not.toContain(laneOf().id);
    expect(laneOf().paused).toBe(true);
    await engine.queues.resume(namespace, 'shared');
    expect((await other.refresh()).map((l) => l.id)).toContain(laneOf().id);
    expect(laneOf().paused).toBe(false);
  });
});
