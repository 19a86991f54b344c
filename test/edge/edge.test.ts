import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import { type Baton, BatonError, createBaton } from '@baton/client';
import { migrate, openSql, type Sql } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import { type Stack, startStack, type TestDatabase, testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { denoMain, denoPath, type EdgeProcess, startDeno, startWorkerd } from './runtimes.ts';

const runtimes = ['Deno', 'workerd'] as const;
type Runtime = (typeof runtimes)[number];

let database: TestDatabase;
let sql: Sql;
const edges = {} as Record<Runtime, EdgeProcess>;

beforeAll(async () => {
  database = await testDatabase();
  sql = openSql(database.url, { max: 1 });
  await migrate(sql, loadMigrations());
  [edges.Deno, edges.workerd] = await Promise.all([startDeno(database.url), startWorkerd(database.url)]);
});

afterAll(async () => {
  await Promise.all(Object.values(edges).map((edge) => edge[Symbol.asyncDispose]()));
  await sql?.end();
  await database?.drop();
});

/** A namespace of a test's own, so that the two runtimes do not see each other's. */
const clientOf = (url: string, namespace: string): Baton => createBaton({ url, namespace, retry: { attempts: 1 } });

async function post(url: string, method: string, request: unknown) {
  const response = await fetch(`${url}/baton.v1.${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof request === 'string' ? request : JSON.stringify(request),
  });
  return { status: response.status, body: await response.json() };
}

const chain = {
  name: 'edge-chain',
  nodes: {
    first: { task: 'sum', input: { a: 2, b: 3 } },
    second: { task: 'twice', needs: ['first'], input: { of: { $from: 'first' } } },
  },
};

/** Requests that cannot be carried out, each in another way. */
const wrong: [string, unknown][] = [
  ['TaskService/SubmitTask', {}],
  ['TaskService/SubmitTask', { namespace: 'Not A Name', task: { kind: '', priority: 5000, tags: [''] } }],
  ['TaskService/SubmitTask', { task: { kind: 'sum', inputJson: '{"a":' } }],
  ['TaskService/SubmitTask', { task: { kind: 'sum', labels: { a: 'nul \u0000' } } }],
  ['TaskService/SubmitTask', { task: { kind: 'sum', inputBytes: 'A'.repeat(2_800_000) } }],
  ['TaskService/SubmitTask', { task: { kind: 'sum', surprise: 1 } }],
  ['TaskService/SubmitTask', '{"task":'],
  ['TaskService/GetTask', { taskId: '99' }],
  ['TaskService/GetTask', { taskId: 'ninety' }],
  ['TaskService/ListTasks', { pageToken: 'nonsense' }],
  ['TaskService/CancelTask', { taskId: '99' }],
  ['WorkflowService/StartRun', { workflowName: 'nobody-wrote-it' }],
  [
    'WorkflowService/StartRun',
    { definitionJson: JSON.stringify({ name: 'x', nodes: { a: { task: 't', needs: ['b'] } } }) },
  ],
  ['WorkflowService/GetRun', { runId: '99' }],
];

describe.each(runtimes)('the client services under %s', (runtime) => {
  const url = () => edges[runtime].url;
  const namespace = runtime.toLowerCase();

  test('take a task by fetch and JSON, and show it', async () => {
    const task = { kind: 'sum', input: { a: 1, b: 2 }, labels: { from: runtime }, priority: 7 };
    const { status, body } = await post(url(), 'TaskService/SubmitTask', { namespace, task });
    expect(status).toBe(200);
    const read = await post(url(), 'TaskService/GetTask', { namespace, taskId: body.taskId });
    expect(read.body.task).toMatchObject({ ...task, id: body.taskId, state: 'TASK_STATE_READY' });
    const age = Date.now() - Date.parse(read.body.task.createTime);
    expect(Math.abs(age)).toBeLessThan(30_000);
    const listed = await post(url(), 'TaskService/ListTasks', { namespace, kind: 'sum' });
    expect(listed.body.tasks.map(({ id }: { id: string }) => id)).toEqual([body.taskId]);
    const cancelled = await post(url(), 'TaskService/CancelTask', { namespace, taskId: body.taskId, reason: 'enough' });
    expect(cancelled.body).toEqual({ state: 'TASK_STATE_CANCELLED' });
  });

  test('serve @baton/client: submit, page, status, cancel', async () => {
    const baton = clientOf(url(), `${namespace}-client`);
    const handles = await Promise.all(Array.from({ length: 25 }, (_, n) => baton.submit({ kind: 'k', input: n })));
    const ids = handles.map(({ id }) => id);
    expect(new Set(ids).size).toBe(25);
    const listed: string[] = [];
    for await (const task of baton.tasks.list({ pageSize: 10 })) listed.push(task.id);
    expect(listed).toEqual([...ids].reverse());
    expect(await handles[3]!.status()).toMatchObject({ state: 'ready', input: 3, attempts: [] });
    expect(await handles[3]!.cancel('by hand')).toBe('cancelled');
    await expect(handles[3]!.result()).rejects.toThrow(/by hand/);
    await expect(handles[3]!.cancel()).rejects.toMatchObject({ code: 'failed_precondition', reason: 'TASK_ENDED' });
    expect(await baton.system.health()).toMatchObject({ healthy: expect.any(Boolean), version: '0.1.0' });
  });

  test('take compressed requests, and none that become too large', async () => {
    const baton = createBaton({
      url: url(),
      namespace: `${namespace}-gzip`,
      compression: 'gzip',
      retry: { attempts: 1 },
    });
    const input = 'words '.repeat(10_000);
    const task = await baton.submit({ kind: 'k', input });
    expect((await task.status()).input).toBe(input);
    const bomb = await fetch(`${url()}/baton.v1.TaskService/SubmitTask`, {
      method: 'POST',
      headers: { 'content-type': 'application/proto', 'content-encoding': 'gzip' },
      body: gzipSync(Buffer.alloc(2 ** 26), { level: 9 }),
    });
    expect([bomb.status, (await bomb.json()).code]).toEqual([429, 'resource_exhausted']);
  });

  test('follow results and tell a history: what needs no tail of the log', async () => {
    const baton = clientOf(url(), `${namespace}-results`);
    const handles = await Promise.all([1, 2, 3].map((n) => baton.submit({ kind: 'k', input: n })));
    await handles[0]!.cancel('early');
    const seen: string[] = [];
    for await (const { id } of baton.tasks.results(handles.map(({ id: each }) => each))) {
      seen.push(id);
      if (seen.length < 3) await handles[seen.length]!.cancel('late');
    }
    expect(seen).toEqual(handles.map(({ id }) => id));
    expect((await handles[1]!.history()).entries.map(({ what }) => what)).toEqual(['submitted', 'ended']);
    for await (const _ of handles[2]!.output()) expect.fail('it has sent nothing');
  });

  test('make one task for one idempotency key, whoever is first', async () => {
    const baton = clientOf(url(), `${namespace}-keys`);
    const submits = Array.from({ length: 8 }, () =>
      post(url(), 'TaskService/SubmitTask', {
        namespace: `${namespace}-keys`,
        task: { kind: 'k', input: 1, idempotencyKey: 'only-one' },
      }),
    );
    const answers = (await Promise.all(submits)).map(({ body }) => body);
    expect(new Set(answers.map((answer) => answer.taskId)).size).toBe(1);
    expect(answers.filter((answer) => !answer.deduplicated)).toHaveLength(1);
    const other = baton.submit({ kind: 'k', input: 2, idempotencyKey: 'only-one' });
    await expect(other).rejects.toMatchObject({ reason: 'IDEMPOTENCY_CONFLICT' });
  });

  test('never give two requests the same id', async () => {
    const submit = (n: number) =>
      post(url(), 'TaskService/SubmitTask', { namespace: `${namespace}-many`, task: { kind: 'k', input: n } });
    const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => submit(n)));
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    expect(new Set(answers.map(({ body }) => body.taskId)).size).toBe(60);
  });

  test('keep a run, show it, end it', async () => {
    const baton = clientOf(url(), `${namespace}-runs`);
    const run = await baton.runs.start(chain, { idempotencyKey: 'r1' });
    expect(await run.status()).toMatchObject({ state: 'pending', workflowName: 'edge-chain', nodesTotal: 2 });
    expect(await baton.runs.start(chain, { idempotencyKey: 'r1' })).toMatchObject({ id: run.id, deduplicated: true });
    expect((await baton.workflows.get('edge-chain')).version).toBe(1);
    expect(await run.cancel('not now')).toBe('pending'); // a master is told; none is here
    const listed: unknown[] = [];
    for await (const each of baton.runs.list()) listed.push(each);
    expect(listed).toMatchObject([{ id: run.id, cancelReason: 'not now' }]);
  });

  test('refuse what only a master can do', async () => {
    const drain = await post(url(), 'SystemService/DrainWorker', { name: 'w1' });
    expect(drain).toMatchObject({ status: 501, body: { code: 'unimplemented' } });
    expect((await fetch(`${url()}/baton.v1.MasterService/Exchange`, { method: 'POST' })).status).toBe(404);
    expect((await fetch(`${url()}/healthz`)).status).toBe(200);
  });

  test('end their connections to Postgres with the requests', async () => {
    const aborting = new AbortController();
    const baton = clientOf(url(), `${namespace}-watch`);
    const handle = await baton.submit({ kind: 'k', input: null });
    const seen: string[] = [];
    await expect(async () => {
      for await (const task of handle.watch({ signal: aborting.signal })) {
        seen.push(task.state);
        aborting.abort(); // the caller goes away in the middle of a stream
      }
    }).rejects.toThrow(BatonError);
    expect(seen).toEqual(['ready']);
    await vi.waitFor(
      async () => {
        // workerd does not learn that a caller is gone; there, the stream ends when its time is over
        const open = await sql.unsafe(
          `select query from pg_stat_activity where datname = current_database() and application_name = 'baton edge'`,
        );
        expect(open).toHaveLength(0);
      },
      { timeout: 10_000, interval: 50 },
    );
  });
});

describe('beside a master and a worker on the same database', () => {
  let stack: Stack;
  beforeAll(async () => {
    const tasksModule = new URL('./tasks.ts', import.meta.url);
    stack = await startStack({
      databaseUrl: database.url,
      workers: runtimes.map((runtime) => ({
        name: runtime,
        env: { BATON_NAMESPACE: `${runtime.toLowerCase()}-done` },
      })),
      tasksModule,
    });
  });
  afterAll(async () => {
    await stack?.stop();
  });

  describe.each(runtimes)('what %s takes', (runtime) => {
    const baton = () => clientOf(edges[runtime].url, `${runtime.toLowerCase()}-done`);

    test('is carried out, watched and read through it', async () => {
      const handle = await baton().submit<number>({ kind: 'sum', input: { a: 20, b: 22 } });
      const states: string[] = [];
      for await (const task of handle.watch()) states.push(task.state);
      expect(states.at(-1)).toBe('succeeded');
      expect(await handle.result()).toBe(42);
      const lines: string[] = [];
      for await (const line of handle.logs({ follow: true })) lines.push(line.text);
      expect(lines).toEqual(['20 and 22']);
      expect((await handle.status()).attempts).toMatchObject([{ number: 1, state: 'succeeded', worker: runtime }]);
    });

    test('as a run is advanced by the master, to its end', async () => {
      const run = await baton().runs.start(chain);
      const { state, nodes } = await run.result();
      expect(state).toBe('succeeded');
      expect(nodes).toMatchObject([
        { nodeId: 'first', output: 5, attempts: 1 },
        { nodeId: 'second', output: 10, attempts: 1 },
      ]);
    });
  });

  test.each(runtimes)('%s refuses in the same words', async (runtime) => {
    for (const [method, request] of wrong) {
      const atMaster = await post(stack.url, method, request);
      expect(atMaster.status, method).toBeGreaterThanOrEqual(400);
      expect(atMaster.body.code).toMatch(/^(invalid_argument|not_found|resource_exhausted)$/);
      expect(
        await post(edges[runtime].url, method, request),
        `${method} ${JSON.stringify(request)?.slice(0, 80)}`,
      ).toEqual(atMaster);
    }
  });
});

test('without a database there is no start, and it says what is missing', () => {
  const flags = ['--allow-env', '--allow-sys', '--node-modules-dir=manual', '--no-lock'];
  const { status, stderr } = spawnSync(denoPath, ['run', ...flags, denoMain], {
    env: { DATABASE_URL: '', HOME: process.env.HOME },
    encoding: 'utf8',
  });
  expect(stderr).toContain('DATABASE_URL: set it');
  expect(status).toBe(64);
});
