import { createIdMaker, type ResourceRequest } from '@baton/domain';
import { openPools, type Pools, type Sql, setQueuePlanning } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import type { TaskRequest } from '../tasks/submit.ts';
import type { Capabilities } from './ability.ts';
import type { OfferRoom } from './planned-claims.ts';

/** Two masters over one database. */
const masters: Engine[] = [];
let pools: Pools;
let sql: Sql;
let namespace: string;
let tests = 0;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const database = await testDatabase({ migrated: true });
  for (const node of [11, 12]) {
    const own = openPools(database.url);
    pools ??= own;
    const ids = createIdMaker(node, Date.now);
    const settings = { ...DEFAULT_SETTINGS, leaseTtlMs: 5_000, sweepIntervalMs: 200 };
    const engine = createEngine({ pools: own, ids, settings, now: Date.now, random: Math.random, log: silentLog });
    engine.start();
    masters.push(engine);
    cleanUp.push(
      () => engine.stop(),
      () => own.end(),
    );
  }
  sql = pools.api;
  cleanUp.push(() => database.drop());
});
afterAll(async () => {
  for (const each of cleanUp) await each();
});
beforeEach(() => {
  namespace = `test-${++tests}`;
});

const GIB = 2 ** 30;
const gpu = (uuid: string, gib = 24, more: object = {}) => ({
  uuid,
  memoryBytes: gib * GIB,
  model: 'NVIDIA A100',
  simulated: true,
  ...more,
});

interface TestWorker {
  sessionId: string;
  room: OfferRoom;
}

let instances = 0;
async function worker(name: string, more: Partial<Capabilities> = {}, master = masters[0]!): Promise<TestWorker> {
  const capabilities: Capabilities = {
    taskClasses: ['cpu_short', 'gpu'],
    tags: [],
    executors: ['function'],
    kinds: ['paint', 'other'],
    queues: [],
    slots: 8,
    protocolVersion: 4,
    cpus: 16,
    memoryBytes: 64 * GIB,
    os: 'linux',
    ...more,
  };
  const instanceId = `${namespace} ${name} ${++instances}`;
  const registration = { name, instanceId, serviceUrl: '', version: '0', metadata: {}, capabilities };
  const { sessionId } = await master.sessions.register(namespace, registration);
  const devices = (capabilities.gpus ?? []).map(({ uuid, memoryBytes }) => ({ uuid, freeMemoryBytes: memoryBytes }));
  const room = { cpus: 16, memoryBytes: 64 * GIB, devices, warm: [], resourceSlots: 8 };
  return { sessionId, room };
}

let offers = 0n;
async function take(
  { sessionId, room }: TestWorker,
  { freeSlots = 8, master = masters[0]!, ...more }: { freeSlots?: number; master?: Engine } & Partial<OfferRoom> = {},
) {
  const offer = { number: ++offers, freeSlots, room: { ...room, ...more } };
  const { assignments } = await master.sessions.exchange({ sessionId, results: [], offer, waitMs: 0 });
  return assignments;
}

type Taken = Awaited<ReturnType<typeof take>>[number];
async function end(
  { sessionId }: TestWorker,
  { taskId, epoch }: Taken,
  type: 'success' | 'failure' | 'returned' = 'success',
) {
  const outcome =
    type === 'success'
      ? { type, output: new Uint8Array(), encoding: 2 as const }
      : type === 'failure'
        ? { type, failure: { type: 'EVALUATION_ERROR' as const, message: 'no' } }
        : { type };
  const results = [{ taskId, epoch, outcome, ranUs: 10 }];
  const { refused } = await masters[0]!.sessions.exchange({ sessionId, results, offer: null, waitMs: 0 });
  expect(refused).toEqual([]);
}

const submit = async (request: Partial<TaskRequest> = {}) =>
  (await masters[0]!.submitter.submit(namespace, { kind: 'paint', ...request })).taskId;
const submitGpu = (resources: ResourceRequest = { gpus: 1 }, more: Partial<TaskRequest> = {}) =>
  submit({ resources, ...more });

const leased = async () =>
  (
    await sql.unsafe(
      'select uuid from baton.device_leases d join baton.workers w on w.id = d.worker_id join baton.namespaces n on n.id = w.namespace_id where n.name = $1 order by uuid',
      [namespace],
    )
  ).map((row) => row.uuid as string);

describe('devices', () => {
  it('are given by UUID, each to one lease, and are free again when it ends, however it ends', async () => {
    const anna = await worker('anna', { gpus: [gpu('a1'), gpu('a2')] });
    for (const how of ['success', 'failure', 'returned', 'cancel'] as const) {
      const ids = [await submitGpu({ gpus: 2 }, { retry: { maxAttempts: 1 } }), await submitGpu()];
      const first = await take(anna);
      expect(first.map((a) => [a.taskId, [...a.devices].sort()])).toEqual([[ids[0], ['a1', 'a2']]]);
      expect(first[0]!.resources).toMatchObject({ gpus: 2, gpuMemoryBytes: 2 * GIB, cpus: 1, memoryBytes: 4 * GIB });
      expect(await leased()).toEqual(['a1', 'a2']);
      expect(await take(anna)).toEqual([]);
      if (how === 'cancel') {
        await masters[0]!.tasks.cancel(namespace, ids[0]!, 'enough');
        const { taskId, epoch } = first[0]!;
        const results = [{ taskId, epoch, outcome: { type: 'cancelled' as const }, ranUs: 1 }];
        await masters[0]!.sessions.exchange({ sessionId: anna.sessionId, results, offer: null, waitMs: 0 });
      } else await end(anna, first[0]!, how);
      expect(await leased()).toEqual([]);
      if (how === 'returned') await masters[0]!.tasks.cancel(namespace, ids[0]!, 'enough');
      const [second] = await take(anna);
      expect(second).toMatchObject({ taskId: ids[1] });
      await end(anna, second!);
    }
  });

  it('are free again when their worker leaves, and when it is lost', async () => {
    const anna = await worker('anna', { gpus: [gpu('a1')] });
    const id = await submitGpu();
    expect(await take(anna)).toHaveLength(1);
    await masters[0]!.sessions.leave(anna.sessionId, 'bye');
    expect(await leased()).toEqual([]);
    const bob = await worker('bob', { gpus: [gpu('b1')] });
    expect(await take(bob)).toMatchObject([{ taskId: id, devices: ['b1'] }]);
    await sql.unsafe("update baton.sessions set expires_at = clock_timestamp() - interval '1 s' where id = $1", [
      bob.sessionId,
    ]);
    await expect.poll(leased).toEqual([]);
  });

  it('of a lease of an earlier life of the worker are not given again until that lease has ended', async () => {
    const before = await worker('anna', { gpus: [gpu('a1'), gpu('a2')] });
    const first = await submitGpu();
    const [held] = await take(before);
    const after = await worker('anna', { gpus: [gpu('a1'), gpu('a2')] });
    const ids = [await submitGpu(), await submitGpu()];
    const free = ['a1', 'a2'].filter((uuid) => uuid !== held!.devices[0]);
    await expect.poll(async () => (await take(after)).map((a) => a.devices)).toEqual([free]);
    expect(held).toMatchObject({ taskId: first });
    const stillReady = await Promise.all(ids.map(async (id) => (await masters[0]!.tasks.get(namespace, id, 0)).state));
    const waits = ids[stillReady.indexOf('ready')]!;
    expect((await masters[0]!.explain(namespace, waits)).blockers).toMatchObject([
      { reason: 'NO_CAPACITY', worker: 'anna', message: expect.stringContaining('0 of 2 devices that fit are free') },
    ]);
    await end(before, held!);
    await expect.poll(async () => (await take(after)).map((a) => a.devices)).toEqual([held!.devices]);
  });

  it('that are real are one device for all workers of their machine, simulated ones are their worker’s own', async () => {
    const uuid = `GPU-${crypto.randomUUID()}`;
    const [anna, bob] = [
      await worker('anna', { gpus: [gpu(uuid, 24, { simulated: false })] }),
      await worker('bob', { gpus: [gpu(uuid, 24, { simulated: false })] }),
    ];
    await submitGpu();
    await submitGpu();
    const [held] = await take(anna);
    expect(await take(bob)).toEqual([]);
    await end(anna, held!);
    await expect.poll(() => take(bob)).toHaveLength(1);
    const [carl, dora] = [await worker('carl', { gpus: [gpu('x')] }), await worker('dora', { gpus: [gpu('x')] })];
    await submitGpu();
    await submitGpu();
    expect([...(await take(carl)), ...(await take(dora))].map((a) => a.devices)).toEqual([['x'], ['x']]);
  });

  it('with an open breaker are not given, the others are', async () => {
    const anna = await worker('anna', { gpus: [gpu('bad'), gpu('good')] });
    await sql.unsafe(
      `insert into baton.breakers (worker_id, device, state, reason, changed_at, counted_from)
       select id, 'bad', 'open', 'ill', clock_timestamp(), clock_timestamp() from baton.workers where name = 'anna' and namespace_id = $1`,
      [(await masters[0]!.lanes.knownNamespaceId(namespace))!],
    );
    await submitGpu();
    await submitGpu();
    await expect.poll(async () => (await take(anna)).flatMap((a) => a.devices)).toEqual(['good']);
    for (let i = 0; i < 3; i++) expect(await take(anna)).toEqual([]);
    expect(await leased()).toEqual(['good']);
  });

  it('whose lease an older master ended without freeing them are freed by the sweep', async () => {
    const anna = await worker('anna', { gpus: [gpu('a1')] });
    await submitGpu();
    const [held] = await take(anna);
    await sql.unsafe('delete from baton.leases where task_id = $1', [held!.taskId]);
    await expect.poll(leased, { timeout: 10_000 }).toEqual([]);
  });

  it('have a next lease while one runs, of the same worker, and no third one; it stays when the one before it ends', async () => {
    const anna = await worker('anna', { gpus: [gpu('a1')] });
    const bert = await worker('bert', { gpus: [gpu('b1')] });
    const next = { devices: [], resourceSlots: 0, nextDevices: ['a1'] };
    for (let i = 0; i < 4; i++) await submitGpu();
    const [first] = await take(anna, { freeSlots: 1 });
    const [second, ...more] = await take(anna, next);
    expect(second).toMatchObject({ devices: ['a1'] });
    expect(more).toEqual([]);
    expect(await leased()).toEqual(['a1', 'a1']);
    // Two at most, and neither of them anew: whatever is offered.
    expect(await take(anna, next)).toEqual([]);
    expect(await take(anna)).toEqual([]);
    await end(anna, first!);
    expect(await leased()).toEqual(['a1']);
    const [third] = await take(anna, next);
    expect(third).toMatchObject({ devices: ['a1'] });
    const [here] = await take(bert);
    expect(here).toMatchObject({ devices: ['b1'] });
    await end(anna, second!);
    await end(bert, here!);
    await end(anna, third!);
    expect(await leased()).toEqual([]);
  });

  it('that another worker has are not waited for, and two masters do not give one place twice', async () => {
    const real = `GPU-${crypto.randomUUID()}`;
    const anna = await worker('anna', { gpus: [{ ...gpu(real), simulated: false }] });
    const bert = await worker('bert', { gpus: [{ ...gpu(real), simulated: false }] });
    for (let i = 0; i < 6; i++) await submitGpu();
    const next = { devices: [], resourceSlots: 0, nextDevices: [real] };
    const [first] = await take(anna, { freeSlots: 1 });
    expect(await take(bert, next)).toEqual([]);
    for (let i = 0; i < 10; i++) {
      const granted = await Promise.all([
        take(anna, { ...next, master: masters[0] }),
        take(bert, { master: masters[1] }),
        take(bert, { ...next, master: masters[1] }),
      ]);
      expect(granted.flat().length).toBeLessThanOrEqual(1);
      for (const assignment of granted[0]!) await end(anna, assignment, 'returned');
    }
    expect(await leased()).toEqual([real]);
    await end(anna, first!);
  });

  it('a task of class gpu has one without asking for it, and one that takes another class none', async () => {
    const anna = await worker('anna', { gpus: [gpu('a1', 1), gpu('a2')] });
    const [onGpu, onCpu] = [await submit({ taskClass: 'gpu' }), await submit()];
    const taken = await take(anna);
    expect(new Map(taken.map((a) => [a.taskId, a.devices]))).toEqual(
      new Map([
        [onGpu, ['a2']],
        [onCpu, []],
      ]),
    );
  });

  it('no two live leases have one device, whatever two masters do at the same moment', async () => {
    const uuids = ['d1', 'd2', 'd3', 'd4'];
    const lives = [await worker('anna', { gpus: uuids.map((uuid) => gpu(uuid)) })];
    // Lives of one worker: each believes that all is free.
    for (let i = 0; i < 3; i++) lives.push(await worker('anna', { gpus: uuids.map((uuid) => gpu(uuid)) }));
    await sql.unsafe("update baton.sessions set state = 'active' where id = any($1::bigint[])", [
      `{${lives.map((l) => l.sessionId)}}`,
    ]);
    const held = new Map<string, { life: TestWorker; taken: Taken }>();
    const live = new Set<string>();
    let granted = 0;
    const one = async (life: TestWorker, master: Engine, seed: number) => {
      // On a loaded machine most offers lose their race: on until enough were granted.
      for (let i = 0; i < 25 || granted <= 20; i++) {
        await submitGpu({ gpus: 1 + ((seed + i) % 2), cpus: 0, memoryBytes: 0 });
        for (const taken of await take(life, { master })) {
          granted++;
          for (const uuid of taken.devices) {
            expect(live.has(uuid), `${uuid} twice`).toBe(false);
            live.add(uuid);
          }
          held.set(taken.taskId, { life, taken });
        }
        if ((seed + i) % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
        for (const [taskId, { life: holder, taken }] of held) {
          if (holder !== life) continue;
          held.delete(taskId);
          // Told before its end is written, else the next holder would be seen first.
          for (const uuid of taken.devices) live.delete(uuid);
          await end(life, taken);
        }
      }
    };
    await Promise.all(lives.map((life, i) => one(life, masters[i % 2]!, i)));
    // The master tells the older lives to end, which ends offers: what was granted in that moment waits for the next.
    const rest = async () => {
      for (const [i, life] of lives.entries())
        for (const taken of await take(life, { master: masters[i % 2]! })) await end(life, taken);
      return leased();
    };
    await expect.poll(rest, { timeout: 20_000 }).toEqual([]);
  }, 60_000);
});

describe('vectors and requirements', () => {
  it('CPUs and memory are counted down within an offer, and a worker that says nothing gets no such task', async () => {
    const anna = await worker('anna');
    for (let i = 0; i < 4; i++) await submit({ resources: { cpus: 6 } });
    expect(await take(anna)).toHaveLength(2);
    expect(await take(anna, { cpus: 4, memoryBytes: 52 * GIB })).toEqual([]);
    expect(await take(anna, { cpus: 6, memoryBytes: 3 * GIB })).toEqual([]);
    expect(await take(anna, { cpus: 16, resourceSlots: 1 })).toHaveLength(1);
    const offer = { number: ++offers, freeSlots: 8 };
    const { assignments } = await masters[0]!.sessions.exchange({
      sessionId: anna.sessionId,
      results: [],
      offer,
      waitMs: 0,
    });
    expect(assignments).toEqual([]);
  });

  it('tasks without resources keep their place by priority and age among those with some', async () => {
    const anna = await worker('anna', { gpus: [gpu('a1')] });
    const ids = [
      await submit(),
      await submitGpu(),
      await submit({ priority: 3 }),
      await submitGpu({ gpus: 1 }, { priority: 9 }),
    ];
    const taken = await take(anna, { freeSlots: 3 });
    expect(new Set(taken.map((a) => a.taskId))).toEqual(new Set([ids[0], ids[2], ids[3]]));
  });

  it('are refused with all problems at once, each at its place', async () => {
    const request = {
      resources: { cpus: -1, gpus: 5_000 },
      requirements: { tools: ['ffmpeg>='], selector: 'gpu.memory > 40' },
    };
    const refusal = await submit(request).catch((error) => error);
    expect(refusal).toMatchObject({ code: 'invalid_argument', reason: 'INVALID_REQUEST' });
    expect(refusal.violations.map((v: { field: string }) => v.field)).toEqual([
      'task.resources.cpus',
      'task.resources.gpus',
      'task.requirements.tools[0]',
      'task.requirements.selector',
    ]);
    expect(refusal.message).toContain('(character 4)');
  });

  it('only who meets the requirements is given the task; a resent one asks for the same', async () => {
    const plain = await worker('plain');
    const able = await worker('able', { tools: [{ name: 'ffmpeg', version: '6.0' }], tags: ['SSD'] });
    const requirements = {
      os: ['Linux', 'darwin'],
      tools: ['ffmpeg>=5'],
      selector: 'worker.tags.exists(t, t == "ssd") && worker.memory_gib >= 32',
    };
    const id = await submit({ requirements, tags: ['ssd'], retry: { maxAttempts: 1 } });
    expect(await take(plain)).toEqual([]);
    expect((await masters[0]!.explain(namespace, id)).fittingWorkers).toBe(1);
    const [taken] = await take(able);
    expect(taken).toMatchObject({ taskId: id, devices: [], resources: null });
    await end(able, taken!, 'failure');
    const [again] = await masters[0]!.failures.resend(namespace, [id], 'once');
    const task = await masters[0]!.tasks.get(namespace, (again as { taskId: string }).taskId, 0);
    expect(task).toMatchObject({ tags: ['ssd'], needs: { os: ['darwin', 'linux'], tools: ['ffmpeg>=5'] } });
    expect(await take(plain)).toEqual([]);
    expect(await take(able)).toHaveLength(1);
  });

  it('a number that is too large for every worker is named, with the largest there is', async () => {
    await worker('small', { gpus: [gpu('s1', 16)] });
    await worker('large', { gpus: [gpu('l1', 40), gpu('l2', 40)] });
    const why = async (resources: ResourceRequest) => masters[0]!.explain(namespace, await submitGpu(resources));
    expect(await why({ gpuMemoryBytes: 80 * GIB })).toMatchObject({
      summary: expect.stringMatching(
        /80.0 GiB of GPU memory on each device.*the largest there is has 40.0 GiB \(large\)/,
      ),
      blockers: [{ reason: 'RESOURCES_TOO_LARGE' }, { reason: 'MISSING_CAPABILITY' }, { reason: 'MISSING_CAPABILITY' }],
    });
    expect((await why({ gpus: 4 })).summary).toMatch(/4 GPUs.*the most there are on one worker is 2 \(large\)/);
    expect((await why({ cpus: 64 })).summary).toMatch(/64 CPUs.*the most .* is 16/);
    expect((await why({ gpuModel: 'h200' })).blockers[0]).toMatchObject({ missing: ['gpu_model:h200'] });
  });
});

describe('strategies', () => {
  it('a queue’s own is heard of by all masters, and changes who is given what', async () => {
    const names = ['anna', 'bob'];
    const workers = await Promise.all(names.map((name) => worker(name, { slots: 4 })));
    const ids = [await submit({ priority: 0 }), await submit({ priority: 5 })];
    expect(await masters[0]!.queues.plan(namespace, 'default', { strategy: 'fifo' })).toEqual({
      strategy: 'fifo',
      placement: null,
    });
    expect(await take(workers[0]!, { freeSlots: 1 })).toMatchObject([{ taskId: ids[0] }]);
    await masters[0]!.queues.plan(namespace, 'default', { strategy: null, placement: 'worst_fit' });
    const third = await submit({ priority: 9 });
    expect(await take(workers[0]!, { freeSlots: 1 })).toMatchObject([{ taskId: third }]);
    const namespaceId = (await masters[0]!.lanes.knownNamespaceId(namespace))!;
    await setQueuePlanning(sql, namespaceId, 'default', { strategy: 'fifo' });
    await masters[1]!.lanes.refresh();
    const [low, high] = [await submit({ priority: -3 }), await submit({ priority: 8 })];
    const lane = [...masters[1]!.lanes.all()].find((each) => each.namespaceId === namespaceId)!;
    expect(masters[1]!.lanes.planningOf(lane)).toMatchObject({ strategy: 'fifo', placement: 'worst_fit' });
    const order: string[] = [];
    await expect
      .poll(async () => {
        const taken = await take(workers[1]!, { freeSlots: 1, master: masters[1]! });
        return order.push(...taken.map((a) => a.taskId));
      })
      .toBe(3);
    expect(order).toEqual([ids[1], low, high]);
  });

  it('a kind’s next task has the device that it had last, unless that is taken', async () => {
    const anna = await worker('anna', { gpus: [gpu('g1', 80), gpu('g2', 24)] });
    const large = await submitGpu({ gpuMemoryBytes: 40 * GIB });
    const [first] = await take(anna);
    expect(first).toMatchObject({ taskId: large, devices: ['g1'] });
    await end(anna, first!);
    await submitGpu({ gpuMemoryBytes: 10 * GIB });
    expect(await take(anna)).toMatchObject([{ devices: ['g1'] }]);
    await submitGpu({ gpuMemoryBytes: 10 * GIB });
    expect(await take(anna, { devices: [{ uuid: 'g2', freeMemoryBytes: 0 }] })).toMatchObject([{ devices: ['g2'] }]);
  });
});
