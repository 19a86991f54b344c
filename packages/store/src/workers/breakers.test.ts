import {
  type BreakerPolicy,
  type BreakerSight,
  type BreakerView,
  EVENT,
  type FailureType,
  nextStep,
  unrelated,
} from '@baton/domain';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import type { Grant } from '../tasks/claim.ts';
import { claimProbe } from '../tasks/claim-probe.ts';
import { internLane, type Lane } from '../tasks/lanes.ts';
import { type Settlement, settleTasks } from '../tasks/settle.ts';
import {
  adoptProbes,
  type BreakerStep,
  failingWorkers,
  findWorker,
  listBreakers,
  type OpenBreaker,
  readIncidents,
  readOpenBreakers,
  stepBreaker,
  workersOfSessions,
} from './breakers.ts';
import { registerWorker } from './sessions.ts';

const POLICY: BreakerPolicy = { failures: 3, windowMs: 3_600_000, openMs: 300_000, soleOpenMs: 10_000, successes: 2 };

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;
/** Of another master. */
let other: Pools;

beforeAll(async () => {
  db = await migratedDatabase({ max: 8 });
  sql = db.sql;
  stage = scene(sql);
  other = openPools(db.url, { hot: 8, lease: 4, api: 1 });
});
afterAll(async () => {
  await other.end();
  await db.drop();
});

let made = 0;
interface Machine {
  name: string;
  workerId: number;
  session: string;
  lane: Lane;
}

async function machine(): Promise<Machine> {
  const name = `machine ${++made}`;
  const session = await stage.session(name);
  return { name, session, workerId: (await findWorker(sql, 1, name))!, lane: await stage.lane(name) };
}

type End = FailureType | 'lost' | 'succeeded' | 'returned' | 'cancelled';

async function end(grants: readonly Grant[], how: End, device?: string): Promise<void> {
  if (how === 'succeeded') {
    await stage.complete(grants);
    return;
  }
  const state = how === 'lost' || how === 'returned' || how === 'cancelled' ? how : 'failed';
  const type = how === 'lost' ? 'WORKER_CRASH' : how === 'returned' ? 'NETWORK_ERROR' : (how as FailureType);
  await settleTasks(
    sql,
    grants.map(
      (g): Settlement => ({
        taskId: g.taskId,
        epoch: g.epoch,
        sessionId: g.sessionId,
        attempt: state,
        next: state === 'cancelled' ? 'cancelled' : 'ready',
        delayMs: null,
        budget: 'none',
        failure: state === 'cancelled' ? null : { type, message: 'as the test wants it', ...(device && { device }) },
        ranUs: 1,
      }),
    ),
  );
}

/** So many failures of as many tasks. */
async function failures(m: Machine, count: number, how: End, device?: string): Promise<void> {
  await stage.submit(m.lane, count);
  await end(await stage.claim(m.lane, m.session, count), how, device);
  // What failed is ready again; it is not for the next claim.
  await sql.unsafe('delete from baton.ready where lane_id = $1', [m.lane.id]);
}

/** What a master does at each look, by the domain's rules. */
async function look(m: Machine, on: Sql = sql): Promise<BreakerView['state'] | null> {
  const open = (await readOpenBreakers(on)).filter((b) => b.workerId === m.workerId);
  const steps: [Omit<BreakerStep, 'to' | 'successes' | 'reason'>, BreakerView][] = [];
  for (const b of open) {
    const next = nextStep({ ...b, failures: 0, isSole: false }, POLICY);
    if (next) steps.push([{ ...b, from: b.state }, next]);
  }
  const incidents = await readIncidents(on, [m.workerId], POLICY.windowMs);
  for (const device of new Set(incidents.map((i) => i.device))) {
    const mine = incidents.filter((i) => i.device === device);
    const { state, countedFrom } = mine[0]!;
    if (state !== null && state !== 'closed') continue;
    const next = nextStep(sightOf({ failures: unrelated(mine.map((i) => i.taskIds)) }), POLICY);
    const key = {
      workerId: m.workerId,
      device,
      from: 'closed' as const,
      countedFrom,
      probeTaskId: null,
      probeEpoch: null,
    };
    if (next) steps.push([key, next]);
  }
  let to: BreakerView['state'] | null = null;
  for (const [at, next] of steps)
    if (await stepBreaker(on, { ...at, to: next.state, successes: next.successes, reason: 'test' })) to = next.state;
  return to;
}

const sightOf = (change: Partial<BreakerSight>): BreakerSight => ({
  state: 'closed',
  successes: 0,
  forMs: 0,
  failures: 0,
  isSole: false,
  probe: null,
  failedSince: false,
  ...change,
});

async function breakerOf(m: Machine, device = '') {
  const [row] = await sql.unsafe('select * from baton.breakers where worker_id = $1 and device = $2', [
    m.workerId,
    device,
  ]);
  return row ? { state: row.state, successes: row.successes, probe: row.probe_task_id } : null;
}

async function heldBack(m: Machine): Promise<boolean[]> {
  const rows = await sql.unsafe("select held_back from baton.sessions where worker_id = $1 and state <> 'closed'", [
    m.workerId,
  ]);
  return rows.map((r) => r.held_back as boolean);
}

/** Lets time go by for this worker's breakers. */
async function age(m: Machine, ms: number): Promise<void> {
  await sql.unsafe(
    `update baton.breakers set changed_at = changed_at - $2::double precision * interval '1 ms' where worker_id = $1`,
    [m.workerId, ms],
  );
}

async function opened(): Promise<Machine> {
  const m = await machine();
  await failures(m, 3, 'GPU_ERROR');
  expect(await look(m)).toBe('open');
  return m;
}

async function halfOpen(): Promise<Machine> {
  const m = await opened();
  await age(m, POLICY.openMs);
  expect(await look(m)).toBe('half_open');
  return m;
}

async function probe(m: Machine): Promise<Grant> {
  await stage.submit(m.lane, 1);
  const grants = await claimProbe(other.hot, [m.lane.id], m.session);
  expect(grants).toHaveLength(1);
  return grants[0]!;
}

describe('a breaker', () => {
  it('opens at three machine-made failures of three tasks, marks the sessions, and says so once', async () => {
    const m = await machine();
    await failures(m, 2, 'NETWORK_ERROR');
    expect(await look(m)).toBeNull();
    expect(await breakerOf(m)).toBeNull();
    await failures(m, 1, 'GPU_ERROR');
    expect(
      await Promise.all([look(m), look(m, other.lease), look(m, other.api)]).then((all) => all.filter(Boolean)),
    ).toEqual(['open']);
    expect(await breakerOf(m)).toEqual({ state: 'open', successes: 0, probe: null });
    expect(await heldBack(m)).toEqual([true]);
    const changes = await sql.unsafe('select from_state, to_state from baton.breaker_changes where worker_id = $1', [
      m.workerId,
    ]);
    expect(changes.map((c) => [c.from_state, c.to_state])).toEqual([['closed', 'open']]);
    const [events] = await sql.unsafe(
      `select count(*)::integer as n from baton.events where types = array[$2]::smallint[] and worker_ids = array[$1]::integer[]`,
      [m.workerId, EVENT.breakerOpened],
    );
    expect(events!.n).toBe(1);
    await stage.submit(m.lane, 1);
    expect(await stage.claim(m.lane, m.session, 1)).toEqual([]);
    expect(await claimProbe(sql, [m.lane.id], m.session)).toEqual([]);
  });

  it.each<[string, (m: Machine) => Promise<void>]>([
    ['application errors', (m) => failures(m, 9, 'EVALUATION_ERROR')],
    ['leases handed back', (m) => failures(m, 9, 'returned')],
    ['one lost session, however much it held', (m) => failures(m, 9, 'lost')],
    [
      'failures before the window',
      async (m) => {
        await failures(m, 3, 'GPU_ERROR');
        await sql.unsafe(`update baton.attempts set ended_at = ended_at - interval '61 minutes' where worker_id = $1`, [
          m.workerId,
        ]);
      },
    ],
    [
      'two devices with two failures each',
      async (m) => {
        await failures(m, 2, 'GPU_ERROR', 'GPU-a');
        await failures(m, 2, 'GPU_ERROR', 'GPU-b');
      },
    ],
  ])('stays closed after %s', async (_, happens) => {
    const m = await machine();
    await happens(m);
    expect(await look(m)).toBeNull();
    expect(await heldBack(m)).toEqual([false]);
  });

  it('never shuts out a lone worker for one task that fails, or kills it, again and again', async () => {
    const m = await machine();
    const [bug] = await stage.submit(m.lane, 1);
    for (let life = 0; life < 5; life++) {
      for (const how of ['NETWORK_ERROR', 'GPU_ERROR', 'lost'] as const) {
        // Others are lost with it.
        await stage.submit(m.lane, 4);
        const grants = await stage.claim(m.lane, m.session, 5);
        expect(grants.some((g) => g.taskId === bug)).toBe(true);
        if (how === 'lost') await end(grants, 'lost');
        else {
          await end(
            grants.filter((g) => g.taskId === bug),
            how,
          );
          await stage.complete(grants.filter((g) => g.taskId !== bug));
        }
        await sql.unsafe('delete from baton.ready where lane_id = $1 and task_id <> $2', [m.lane.id, bug!]);
        expect(await look(m)).toBeNull();
      }
      m.session = await stage.session(m.name);
    }
    expect(await breakerOf(m)).toBeNull();
  });

  it('opens when three lives of a worker end with nothing in common', async () => {
    const m = await machine();
    for (let life = 1; life <= 3; life++) {
      await failures(m, 4, 'lost');
      expect(await look(m)).toBe(life === 3 ? 'open' : null);
      m.session = await stage.session(m.name);
    }
    // The life that registers afterwards inherits it; so does one that registered in the same moment.
    expect(await heldBack(m)).toEqual([true, true, true, true]);
  });

  it('of a device counts the failures that name it, and holds no session back', async () => {
    const m = await machine();
    await failures(m, 3, 'GPU_ERROR', 'GPU-a');
    expect(await look(m)).toBe('open');
    expect(await breakerOf(m, 'GPU-a')).toMatchObject({ state: 'open' });
    expect(await breakerOf(m)).toBeNull();
    expect(await heldBack(m)).toEqual([false]);
  });

  it('of a device takes a task for GPUs as its probe, and opens when any task names it', async () => {
    const m = await machine();
    m.lane = await internLane(sql, {
      namespaceId: 1,
      queue: m.name,
      kind: m.name,
      executor: 'function',
      taskClass: 'gpu',
      tags: [],
    });
    const half = async () => {
      await failures(m, 3, 'GPU_ERROR', 'GPU-a');
      expect(await look(m)).toBe('open');
      await age(m, POLICY.openMs);
      expect(await look(m)).toBe('half_open');
    };
    await half();
    for (const expected of ['half_open', 'closed']) {
      await stage.submit(m.lane, 1);
      const grants = await stage.claim(m.lane, m.session, 1);
      await adoptProbes(other.lease);
      expect(await breakerOf(m, 'GPU-a')).toMatchObject({ probe: grants[0]!.taskId });
      await end(grants, 'succeeded');
      expect(await look(m)).toBe(expected);
    }
    await half();
    await failures(m, 1, 'GPU_ERROR', 'GPU-b');
    expect(await look(m)).toBeNull();
    await failures(m, 1, 'GPU_ERROR', 'GPU-a');
    expect(await look(m)).toBe('open');
  });

  it('goes half-open when its time is over, and not before', async () => {
    const m = await opened();
    await age(m, POLICY.openMs - 5_000);
    expect(await look(m)).toBeNull();
    await age(m, 5_000);
    expect(await look(m)).toBe('half_open');
    expect(await heldBack(m)).toEqual([true]);
    await stage.submit(m.lane, 1);
    expect(await stage.claim(m.lane, m.session, 1)).toEqual([]);
  });

  const ends: End[] = [
    'succeeded',
    'lost',
    'returned',
    'cancelled',
    'NETWORK_ERROR',
    'GPU_ERROR',
    'EVALUATION_ERROR',
    'OUT_OF_MEMORY',
    'TASK_TIMEOUT',
    'UNKNOWN',
  ];
  it.each(ends.flatMap((how) => [0, 1].map((successes) => [how, successes] as const)))(
    'moves on SQL as the domain says when its probe ends: %s, after %i successes',
    async (how, successes) => {
      const m = await halfOpen();
      if (successes) {
        await end([await probe(m)], 'succeeded');
        expect(await look(m)).toBe('half_open');
      }
      const granted = await probe(m);
      expect(await look(m)).toBeNull();
      await end([granted], how);
      const result =
        how === 'succeeded'
          ? 'success'
          : ['lost', 'NETWORK_ERROR', 'GPU_ERROR'].includes(how)
            ? 'machine_failure'
            : 'neutral';
      const expected = nextStep(sightOf({ state: 'half_open', successes, probe: result }), POLICY)!;
      expect((await readOpenBreakers(sql)).find((b) => b.workerId === m.workerId)).toMatchObject({
        probe: result,
      } satisfies Partial<OpenBreaker>);
      // Two masters look at once: one of them moves it.
      const moved = await Promise.all([look(m), look(m, other.lease)]);
      expect(moved.filter(Boolean)).toEqual([expected.state]);
      expect(await breakerOf(m)).toEqual({ ...expected, probe: null });
      expect(await heldBack(m)).toEqual([expected.state !== 'closed']);
    },
  );

  it('frees a probe of which nothing is known any more', async () => {
    const m = await halfOpen();
    const { taskId } = await probe(m);
    await sql.unsafe('delete from baton.leases where task_id = $1', [taskId]);
    expect(await look(m)).toBe('half_open');
    expect(await breakerOf(m)).toEqual({ state: 'half_open', successes: 0, probe: null });
  });

  it('forgets what was before it closed', async () => {
    const m = await halfOpen();
    for (let i = 0; i < 2; i++) {
      await end([await probe(m)], 'succeeded');
      await look(m);
    }
    expect(await breakerOf(m)).toMatchObject({ state: 'closed' });
    expect(await heldBack(m)).toEqual([false]);
    await failures(m, 2, 'GPU_ERROR');
    expect(await look(m)).toBeNull();
    await failures(m, 1, 'GPU_ERROR');
    expect(await look(m)).toBe('open');
  });

  it('is not moved by who saw it in an earlier turn of the same state', async () => {
    const m = await opened();
    const [seen] = (await readOpenBreakers(sql)).filter((b) => b.workerId === m.workerId);
    const close = { ...seen!, from: 'open', to: 'closed', successes: 0, reason: 'reset' } as const;
    expect(await stepBreaker(sql, close)).toBe(true);
    await failures(m, 3, 'GPU_ERROR');
    expect(await look(m)).toBe('open');
    expect(await stepBreaker(sql, close)).toBe(false);
    expect(await stepBreaker(sql, { ...close, countedFrom: null, from: 'closed', to: 'open' })).toBe(false);
    expect(await stepBreaker(sql, { ...close, workerId: 999_999, countedFrom: null, from: 'closed' })).toBe(false);
    expect(await breakerOf(m)).toMatchObject({ state: 'open' });
    expect(await listBreakers(sql, 1, m.name)).toMatchObject([
      { worker: m.name, device: '', state: 'open', reason: 'test' },
    ]);
  });
});

describe('the probe', () => {
  it('is one, of fifty grants at once on two masters', async () => {
    const m = await halfOpen();
    await stage.submit(m.lane, 50);
    const grants = await Promise.all(
      Array.from({ length: 50 }, (_, n) => claimProbe(n % 2 ? sql : other.hot, [m.lane.id], m.session)),
    );
    expect(grants.flat()).toHaveLength(1);
    expect(grants.flat()[0]).toMatchObject({ sessionId: m.session, epoch: 1, attempt: 1 });
    expect(await breakerOf(m)).toMatchObject({ probe: grants.flat()[0]!.taskId });
    const [{ n }] = (await sql.unsafe('select count(*)::integer as n from baton.leases where session_id = $1', [
      m.session,
    ])) as unknown as [{ n: number }];
    expect(n).toBe(1);
  });

  it('is the first by priority, from lanes that are not paused', async () => {
    const m = await halfOpen();
    const paused = await stage.lane(`${m.name} paused`);
    await sql.unsafe('update baton.lanes set paused = true where id = $1', [paused.id]);
    await stage.submit(paused, 1, { priority: 9 });
    await stage.submit(m.lane, 1);
    const [high] = await stage.submit(m.lane, 1, { priority: 5 });
    expect((await claimProbe(sql, [paused.id, m.lane.id], m.session)).map((g) => g.taskId)).toEqual([high]);
  });

  it('is of a kind that the machine has not failed, before priority; then of the one that failed longest ago', async () => {
    const m = await machine();
    const older = await stage.lane(`${m.name} older`);
    await stage.submit(older, 1);
    await end(await stage.claim(older, m.session, 1), 'NETWORK_ERROR');
    await failures(m, 2, 'NETWORK_ERROR');
    expect(await look(m)).toBe('open');
    await age(m, POLICY.openMs);
    expect(await look(m)).toBe('half_open');
    // Of what failed by its own fault nothing is known of the machine.
    const well = await stage.lane(`${m.name} well`);
    const ready = async (lane: Lane, priority: number) => (await stage.submit(lane, 1, { priority }))[0]!;
    const [first, second] = [await ready(well, 0), await ready(well, -1)];
    await ready(m.lane, 9);
    const lanes = [m.lane.id, older.id, well.id];
    const order: string[] = [];
    for (let n = 0; n < 4; n++) {
      const [grant] = await claimProbe(sql, lanes, m.session);
      order.push(
        grant!.taskId === first
          ? 'first'
          : grant!.taskId === second
            ? 'second'
            : `lane ${lanes.indexOf(grant!.laneId)}`,
      );
      await end([grant!], n < 2 ? 'EVALUATION_ERROR' : 'NETWORK_ERROR');
      if (n < 2) await sql.unsafe('delete from baton.ready where task_id = $1', [grant!.taskId]);
      await look(m);
      await age(m, POLICY.openMs);
      await look(m);
    }
    expect(order).toEqual(['first', 'second', 'lane 1', 'lane 0']);
  });

  it.each<[string, (m: Machine) => Promise<unknown>]>([
    [
      'has expired',
      (m) => sql.unsafe(`update baton.sessions set expires_at = clock_timestamp() where id = $1`, [m.session]),
    ],
    ['drains', (m) => sql.unsafe(`update baton.sessions set state = 'draining' where id = $1`, [m.session])],
  ])('is not granted to a session that %s', async (_, happens) => {
    const m = await halfOpen();
    await stage.submit(m.lane, 1);
    await happens(m);
    expect(await claimProbe(sql, [m.lane.id], m.session)).toEqual([]);
    expect(await breakerOf(m)).toMatchObject({ probe: null });
  });

  it('is not granted while nothing is ready, and takes nobody else’s work', async () => {
    const m = await halfOpen();
    expect(await claimProbe(sql, [m.lane.id], m.session)).toEqual([]);
    const well = await machine();
    await stage.submit(well.lane, 1);
    expect(await claimProbe(sql, [well.lane.id], well.session)).toEqual([]);
    expect(await stage.claim(well.lane, well.session, 1)).toHaveLength(1);
  });
});

describe('an opening breaker', () => {
  it('is followed by no grant, whatever claims and registers in the same moment', async () => {
    for (let round = 0; round < 10; round++) {
      const m = await machine();
      await failures(m, 3, 'NETWORK_ERROR');
      await stage.submit(m.lane, 200);
      const claims = Array.from({ length: 12 }, () => stage.claim(m.lane, m.session, 2));
      const again = stage.session(m.name).then(async (id) => {
        const twice = await registerWorker(other.lease, registration(m.name, stage.nextId()));
        return (await Promise.all([stage.claim(m.lane, id, 2), stage.claim(m.lane, twice.sessionId, 2)])).flat();
      });
      await Promise.all([look(m), look(m, other.lease), ...claims, again]);
      const [{ late }] = (await sql.unsafe(
        `select count(*)::integer as late from baton.leases l join baton.sessions s on s.id = l.session_id
         join baton.breakers b on b.worker_id = s.worker_id where s.worker_id = $1 and l.granted_at > b.changed_at`,
        [m.workerId],
      )) as unknown as [{ late: number }];
      expect(late).toBe(0);
      expect(new Set(await heldBack(m))).toEqual(new Set([true]));
    }
  });

  it('is found by a sweep when whoever wrote the failures died before it looked', async () => {
    const m = await machine();
    await failures(m, 3, 'GPU_ERROR');
    expect(await failingWorkers(other.lease, 60_000)).toContain(m.workerId);
    expect(await workersOfSessions(other.lease, [m.session, m.session])).toEqual([m.workerId]);
    await sql.unsafe(`update baton.attempts set ended_at = ended_at - interval '2 minutes' where worker_id = $1`, [
      m.workerId,
    ]);
    expect(await failingWorkers(other.lease, 60_000)).not.toContain(m.workerId);
  });
});

const registration = (name: string, sessionId: string) => ({
  sessionId,
  namespaceId: 1,
  name,
  instanceId: sessionId,
  capabilities: {},
  serviceUrl: '',
  version: '0',
  metadata: {},
  leaseTtlMs: 600_000,
});
