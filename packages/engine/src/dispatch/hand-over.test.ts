import { createIdMaker } from '@baton/domain';
import { openPools, type Sql } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import type { TaskRequest } from '../tasks/submit.ts';
import type { Capabilities } from './ability.ts';

const capabilities: Capabilities = {
  taskClasses: ['cpu_short'],
  tags: [],
  executors: ['function'],
  kinds: ['work'],
  queues: [],
  slots: 10,
};

/** A master over a database of its own, whose periodic duties rest; `before` runs before a statement of that name is sent, `after` behind it. */
async function scene() {
  const database = await testDatabase({ migrated: true });
  const pools = openPools(database.url, { hot: 2, lease: 2, api: 2 });
  const statements: string[] = [];
  const hooks: { before?: (name: string) => Promise<unknown>; after?: (name: string) => Promise<unknown> } = {};
  const hot = new Proxy(pools.hot, {
    get(target, property) {
      if (property !== 'unsafe') return Reflect.get(target, property) as unknown;
      return async (...args: Parameters<Sql['unsafe']>) => {
        const name = /^\/\* baton (.*?) \*\//.exec(args[0])?.[1] ?? args[0];
        statements.push(name);
        await hooks.before?.(name);
        const rows = await target.unsafe(...args);
        await hooks.after?.(name);
        return rows;
      };
    },
  });
  const engine: Engine = createEngine({
    pools: { ...pools, hot },
    ids: createIdMaker(20, Date.now),
    settings: DEFAULT_SETTINGS,
    now: Date.now,
    random: Math.random,
    endOfTurn: setImmediate,
    log: silentLog,
  });
  onTestFinished(async () => {
    await engine.stop();
    await pools.end();
    await database.drop();
  });
  const { api: sql } = pools;
  let number = 0n;
  const submit = async (request: Partial<TaskRequest> = {}) =>
    (await engine.submitter.submit('default', { kind: 'work', ...request })).taskId;
  const worker = async (name: string) => {
    const about = { instanceId: name, capabilities, serviceUrl: '', version: '0', metadata: {} };
    return (await engine.sessions.register('default', { name, ...about })).sessionId;
  };
  /** Resolves when the offer waits, with what it will be answered. */
  const wait = async (sessionId: string, freeSlots = 10, abort?: AbortSignal) => {
    const before = engine.waitingOffers();
    const offer = { number: ++number, freeSlots };
    const answer = engine.sessions.exchange({ sessionId, results: [], offer, waitMs: 20_000 }, abort);
    await expect.poll(() => engine.waitingOffers(), { interval: 1 }).toBe(before + 1);
    return { assignments: answer.then(({ assignments }) => assignments) };
  };
  /** What is there for it now. */
  const take = async (sessionId: string, freeSlots = 10) => {
    const offer = { number: ++number, freeSlots };
    const { assignments } = await engine.sessions.exchange({ sessionId, results: [], offer, waitMs: 0 });
    return assignments.map(({ taskId }) => taskId);
  };
  // So that the lane is known, and nothing is in it.
  const first = await worker('first');
  await submit();
  expect(await take(first)).toHaveLength(1);
  expect(await take(first)).toEqual([]);
  statements.length = 0;
  return { engine, sql, statements, hooks, submit, worker, wait, take };
}

test('a task that a worker waits for is stored and leased in one statement, with its whole history', async () => {
  const { sql, statements, submit, worker, wait } = await scene();
  const anna = await worker('anna');
  const { assignments } = await wait(anna);
  statements.length = 0;
  const taskId = await submit({ input: new TextEncoder().encode('"x"'), idempotencyKey: 'once' });
  const [assignment, ...others] = await assignments;
  expect(others).toEqual([]);
  expect(assignment).toMatchObject({
    taskId,
    sessionId: anna,
    kind: 'work',
    epoch: 1,
    attempt: 1,
    checkpoint: '0',
    nodeId: null,
  });
  expect(new TextDecoder().decode(assignment!.input!)).toBe('"x"');
  expect(statements).toEqual(['submit handing']);
  expect(
    await sql`select session_id::text, epoch, attempt, position = task_id as own_place from baton.leases where task_id = ${taskId}`,
  ).toEqual([{ session_id: anna, epoch: 1, attempt: 1, own_place: true }]);
  expect(await sql`select from baton.ready where task_id = ${taskId}`).toHaveLength(0);
  const [event] =
    await sql`select to_json(types) as types, to_json(attempts) as attempts, to_json(worker_ids) as worker_ids from baton.events where ${taskId} = any(task_ids)`;
  expect(event!.types).toEqual([1, 3]);
  expect(event!.attempts).toEqual([0, 1]);
  expect(event!.worker_ids[0]).toBe(0);
  expect(event!.worker_ids[1]).toBeGreaterThan(0);
  expect(await submit({ input: new TextEncoder().encode('"x"'), idempotencyKey: 'once' })).toBe(taskId);
});

test('what is handed over to an offer that a newer one has ended meanwhile goes to the newer one, at once', async () => {
  const { engine, hooks, submit, worker, wait } = await scene();
  const anna = await worker('anna');
  const older = await wait(anna);
  const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  hooks.after = async (name) => {
    if (!name.startsWith('submit')) return;
    begun.resolve();
    await go.promise;
  };
  const submitted = submit();
  await begun.promise;
  // It stands in the older one's place, so as many wait as before.
  const newer = engine.sessions.exchange({
    sessionId: anna,
    results: [],
    offer: { number: 1_000n, freeSlots: 1 },
    waitMs: 20_000,
  });
  expect(await older.assignments).toEqual([]);
  go.resolve();
  const { assignments } = await newer;
  expect(assignments).toMatchObject([{ taskId: await submitted, epoch: 1 }]);
});

test('the rest of a batch waits its turn, the highest priority goes first, and no worker gets more than it asked for', async () => {
  const { submit, worker, wait, take } = await scene();
  const [anna, ben] = [await worker('anna'), await worker('ben')];
  const { assignments } = await wait(anna, 2);
  const low = submit({ priority: -1 });
  const ids = await Promise.all([low, submit(), submit({ priority: 5 })]);
  const got = (await assignments).map(({ taskId }) => taskId);
  expect([...got].sort()).toEqual([ids[1], ids[2]].sort());
  expect(await take(ben)).toEqual([ids[0]]);
});

test('what was ready before goes first, though this master did not know of it', async () => {
  const { sql, statements, submit, worker, wait } = await scene();
  const anna = await worker('anna');
  const { assignments } = await wait(anna, 1);
  // As another master stores it.
  const older = '1';
  await sql`insert into baton.tasks (id, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding)
    select ${older}, start_to_close_ms, namespace_id, route_id, lane_id, priority, max_attempts, input_encoding from baton.tasks limit 1`;
  await sql`insert into baton.ready (task_id, position, start_to_close_ms, lane_id, priority, max_attempts, input_encoding)
    select id, id, start_to_close_ms, lane_id, priority, max_attempts, input_encoding from baton.tasks where id = ${older}`;
  statements.length = 0;
  await submit();
  expect((await assignments).map(({ taskId }) => taskId)).toEqual([older]);
  expect(statements.slice(0, 2)).toEqual(['submit one handing', 'claim']);
});

test('a queue that is paused, and a session that is closed or held back meanwhile, get nothing; the task is ready', async () => {
  const { engine, sql, hooks, submit, worker, wait, take } = await scene();
  for (const meanwhile of [
    async () => void (await engine.queues.pause('default', 'default')),
    async (session: string) => void (await sql`update baton.sessions set state = 'draining' where id = ${session}`),
    async (session: string) => void (await sql`update baton.sessions set held_back = true where id = ${session}`),
    async (session: string) => void (await sql`update baton.sessions set expires_at = now() where id = ${session}`),
  ]) {
    const name = String(meanwhile);
    const [session, other] = [await worker(`w ${name}`), await worker(`other ${name}`)];
    const call = new AbortController();
    const { assignments } = await wait(session, 10, call.signal);
    hooks.before = async (statement) => {
      if (statement !== 'submit one handing') return;
      hooks.before = async () => {};
      await meanwhile(session);
    };
    const taskId = await submit();
    expect(await sql`select lane_id from baton.ready where task_id = ${taskId}`, name).toHaveLength(1);
    call.abort();
    expect(await assignments, name).toEqual([]);
    // Has all lanes looked at again.
    await engine.queues.resume('default', 'default');
    expect(await take(other), name).toEqual([taskId]);
  }
});

test('a statement that is repeated, its first answer lost, leases nothing twice; the lease that nobody heard of comes back', async () => {
  const { engine, sql, hooks, submit, worker, wait } = await scene();
  const anna = await worker('anna');
  const { assignments } = await wait(anna, 1);
  hooks.after = async (statement) => {
    if (statement !== 'submit one handing') return;
    hooks.after = async () => {};
    throw Object.assign(new Error('connection lost'), { code: 'CONNECTION_CLOSED' });
  };
  const taskId = await submit();
  expect(await sql`select epoch, session_id::text from baton.leases`).toContainEqual({ epoch: 1, session_id: anna });
  // The offer waits on, and gets the next one.
  const next = await submit();
  expect((await assignments).map((a) => a.taskId)).toEqual([next]);
  await sql`update baton.leases set granted_at = granted_at - interval '1 hour' where task_id = ${taskId}`;
  const beat = {
    sessionId: anna,
    held: [{ taskId: next, epoch: 1, started: true, ranMs: 1 }],
    signs: [],
    draining: false,
    metrics: null,
  };
  await engine.sessions.heartbeat({
    ...beat,
    number: 1n,
    count: 1,
    xor: BigInt(next) ^ (1n << 40n),
    heldIsComplete: true,
  });
  await expect
    .poll(() => sql`select epoch, attempt from baton.ready where task_id = ${taskId}`)
    .toEqual([{ epoch: 1, attempt: 0 }]);
});

test('a session whose call ended meanwhile gets with its next one what it was given', async () => {
  const { hooks, submit, worker, wait, take } = await scene();
  const anna = await worker('anna');
  const call = new AbortController();
  const { assignments } = await wait(anna, 10, call.signal);
  hooks.after = async (statement) => {
    if (statement === 'submit one handing') call.abort();
  };
  const taskId = await submit();
  expect(await assignments).toEqual([]);
  expect(await take(anna)).toEqual([taskId]);
});

test('tasks that need more than their input, and those of another kind, go the long way', async () => {
  const { sql, statements, submit, worker, wait } = await scene();
  const anna = await worker('anna');
  await wait(anna);
  await submit({ kind: 'other' });
  await submit({ runAtMs: Date.now() + 60_000 });
  expect(statements.filter((name) => name === 'submit one handing')).toEqual([]);
  expect(await sql`select from baton.leases where session_id = ${anna}`).toHaveLength(0);
});
